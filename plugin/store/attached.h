/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_ATTACHED_H
#define PLUGIN_STORE_ATTACHED_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"

struct engine;
struct err;
struct record;

/*
 * Root file systems for containers: an overlay over mounted layers. Which ones are in use is in
 * engine.h (struct attachment); here they are made and cleaned up after.
 */
struct attach_want {
	const char *id; /* borrowed, as all strings; attached_id_valid() */
	uint32_t kind;  /* enum attach_kind */
	int32_t pid;    /* 0: unknown */
	bool rw;
	const char *label; /* SELinux mount label, or "" */
};

/* Letters, digits and "_.+-", first a letter or digit, shorter than LIMIT_ID. */
bool attached_id_valid(const char *id);

/* --- tasks only --- */

/*
 * Mounts the layers of @rec, lowest first, and makes the overlay: a detached mount that is the
 * caller's. When it fails, the layers go again. @rec->parents is set anew if need be.
 */
int attached_new(struct engine *en, struct record *rec, const struct attach_want *want,
		 int *ret_mount_fd, struct err *e);

/*
 * The container is gone for good: what it wrote is removed. Waits a little for an overlay that is
 * going just now; -EBUSY when it stays. An id that nobody knows is success.
 */
int attached_remove(struct engine *en, const char *id, struct err *e);

#endif
