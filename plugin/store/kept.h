/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_KEPT_H
#define PLUGIN_STORE_KEPT_H

#include <stdbool.h>
#include <stddef.h>

#include "plugin/keep.h"

struct buf;
struct engine;
struct err;

/*
 * The engine's side of the store: files, as a task gets at them by the keeper, which makes the
 * names. Every function blocks; none may be called from the loop thread.
 */

/* The shared layer @diff_id when @scope is NULL or zero, else the manifest's own (law 13). */
struct keep_file file_of_layer(enum keep_kind kind, const struct digest *diff_id,
			       const struct digest *scope);
struct keep_file file_of_map(const struct digest *diff_id, const struct digest *scope,
			     const struct digest *blob);
/* A record or a blob by digest; index.json and the pins with NULL. */
struct keep_file file_of(enum keep_kind kind, const struct digest *key);

/* Read only; the descriptor is the caller's. -ENOENT when it is not there. */
int file_open(struct engine *en, const struct keep_file *f, int *ret_fd, struct err *e);
/* The whole of it into @out; -EBADMSG when it is more than out->max bytes. */
int file_read(struct engine *en, const struct keep_file *f, struct buf *out, struct err *e);
bool file_exists(struct engine *en, const struct keep_file *f);

/* An empty file under a temporary name, read-write. It counts once it is published. */
int file_create(struct engine *en, const struct keep_file *f, int *ret_fd, struct err *e);
int file_publish(struct engine *en, const struct keep_file *f, struct err *e);
/* The file and its temporary; success when there is none. */
int file_drop(struct engine *en, const struct keep_file *f, struct err *e);
/* Create, write and publish in one: afterwards, and after a crash, it is the old or the new. */
int file_write(struct engine *en, const struct keep_file *f, const void *data, size_t len,
	       struct err *e);

/* file_write(), unless it holds these bytes already: that needs no room on a full disk. */
int file_update(struct engine *en, const struct keep_file *f, const void *data, size_t len,
		struct err *e);

/* The digests that exist of KEEP_RECORD or KEEP_INDEX; @ret is the caller's to free. */
int file_list(struct engine *en, enum keep_kind kind, struct digest **ret, size_t *ret_n,
	      struct err *e);

/* What the store has of the other kinds (keep.h, KEEP_LIST); @ret is the caller's to free. */
int file_list_found(struct engine *en, enum keep_kind kind, struct keep_found **ret, size_t *ret_n,
		    struct err *e);

/* The whole directory of a layer. -EBUSY while it is mounted. */
int layer_drop(struct engine *en, const struct digest *diff_id, const struct digest *scope,
	       struct err *e);

#endif
