/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_TREE_H
#define HOOKS_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "hooks/target.h"

struct err;

/*
 * The mounts that a runtime has made in the container's root directory before its hooks run:
 * /proc, /dev, binds on /etc/hosts, volumes. They are put into the image's file system at the same
 * places, as the runtime would have done had it been there.
 *
 * A tree is assembled before it is attached: what was wrong with an image shows while nothing has
 * been changed, and the container's root is never half made. Kernels before 6.15 cannot mount on a
 * detached mount; there it is attached first, which nobody sees either: init waits for the hook.
 */
struct submount {
	const char *point; /* borrowed from the target's table: relative to its root directory */
	int id;            /* of the original */
	int fd;            /* owned: a copy of it and of all below, detached until it is placed */
	bool dir;
	bool system; /* procfs, sysfs, or what is on /dev: no links on the way there */
};

struct tree {
	struct submount *v; /* owned */
	size_t n;
};

#define _cleanup_tree_ __attribute__((cleanup(tree_free)))

/* Copies the mounts of @t (target_enter() is done). Nested ones come along with theirs. */
int tree_copy(const struct target *t, struct tree *ret, struct err *e);
void tree_free(struct tree *tr);

/*
 * Makes what the container needs in the image's file system @image (a detached mount, or an
 * attached one): the places of all submounts, and @cwd (or NULL), which runtimes make only where
 * they can write. Then puts the submounts there. *ret_detached (may be NULL) says whether a failure
 * was the kernel's refusal to mount on a detached mount; then nothing was mounted.
 */
int tree_place(struct tree *tr, int image, const char *cwd, bool *ret_detached, struct err *e);

/* Is the runtime's mount directly on the top-level entry @name? */
bool tree_has_top(const struct tree *tr, const char *name);

/*
 * Afterwards: does each path at which there was a mount lead, below the new root directory @root,
 * to one of the same file system and directory with the same options, with the same ones below it?
 * So no mask and no read-only bind was lost on the way. -EIO says which one is missing.
 */
int tree_verify(const struct tree *tr, const struct target *t, int root, struct err *e);

#endif
