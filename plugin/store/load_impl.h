/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_LOAD_IMPL_H
#define PLUGIN_STORE_LOAD_IMPL_H

#include "plugin/keep.h"

struct engine;
struct err;
struct layer;

/* Between load.c, unload.c and reaper.c. Tasks only. */

/* KEEP_LAYER_MOUNT or KEEP_LAYER_UMOUNT; @fds: fill and image, the caller's, -1 without. */
int layer_ask(struct engine *en, enum keep_op op, const struct digest *diff_id,
	      const struct digest *scope, struct keep_reply *rep, int fds[2], struct err *e);

/*
 * Unmounts a layer that nobody uses and frees it. -EBUSY: the kernel or the keeper has a use for
 * it still; 0 also when it got a reference again. The caller has CLAIM_MOUNT.
 */
int layer_finish_umount(struct engine *en, struct layer *l);
/* It is not mounted any more: what it holds is written down, and it is freed. */
void layer_forget(struct engine *en, struct layer *l);

/* Takes the claim, and layer_finish_umount(). 0 also when it is not mounted. */
int layer_umount_idle(struct engine *en, const struct digest *diff_id, const struct digest *scope);

#endif
