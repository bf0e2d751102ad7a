/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_PIECES_H
#define HOOKS_PIECES_H

#include <stdbool.h>
#include <stddef.h>

#include "oci/base/limits.h"

struct err;

/* An entry of the image's root directory, and what will stand for it in the stub. */
struct piece {
	char name[LIMIT_FILE_NAME + 1];
	char *link; /* owned: a symbolic link to make; NULL: a mount */
	bool dir;
	int fd; /* owned: a copy of the image's mount with this entry for its root */
};

struct pieces {
	struct piece *v; /* owned; LIMIT_GRAFTS of them */
	size_t n;
};

#define _cleanup_pieces_ __attribute__((cleanup(pieces_free)))

/* Copies the entries of @image, an attached mount (before Linux 6.15 no other can be copied). */
int pieces_take(int image, struct pieces *ret, struct err *e);
void pieces_free(struct pieces *ps);

/*
 * Puts the piece into the directory @stub, which is in mount @mount. What is in its way there and
 * is no more than runtimes make to mount on (empty directories, empty files), or a link, goes.
 */
int piece_place(const struct piece *p, int stub, int mount);

#endif
