/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_LOAD_H
#define PLUGIN_STORE_LOAD_H

#include <stdint.h>

#include "oci/base/digest.h"

struct engine;
struct err;
struct keep_reply;
struct layer;
struct source;

/*
 * Layers come and go. A mounted layer is in en->layers and has references; the last one that goes
 * takes the mount with it, as soon as the kernel lets go of it. CLAIM_MOUNT on the diff_id is held
 * while a layer is mounted or unmounted: whoever works on the files of a layer that is not
 * mounted (eviction, removal) takes it too.
 *
 *   not there ──layer_mount()──▶ mounted, refs ≥ 1 ──last layer_umount()──▶ drained, unmounted
 *        ▲                          ▲                                         │        │
 *        └──────────────────────────┼───────────── done ──────────────────────┘        │
 *                                   └── wanted again ── unmounting: asked again ◀─ busy ┘
 */

/* --- tasks only; they block --- */

/*
 * Mounts a layer by its record (@scope zero: the shared place), or finds it mounted; the caller
 * gets a reference. An image.erofs that is missing or of an older version is made anew.
 */
int layer_mount(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		struct layer **ret, struct err *e);
/* Gives a reference back; the last one unmounts. What is busy is tried again in the background. */
void layer_umount(struct engine *en, struct layer *l);

/*
 * The keeper said that this layer is mounted already (KEEP_TELL_LAYER): an engine before us had
 * it. It is listed without a reference. @fds: fill and image, -1 where it has yet to be mounted (a
 * layer that all of a tarnd died over); taken over in any case.
 */
int layer_adopt(struct engine *en, const struct keep_reply *msg, int fds[2], struct err *e);

/*
 * A pull has just used this source of the layer. If it is mounted it can be asked from now on, and
 * one that was held for bad, or that had refused us, is tried again.
 */
int layer_learn_source(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		       const struct source *from, struct err *e);

/* Bytes of its tar that the file system really holds; 0 when there is none. */
uint64_t layer_resident(struct engine *en, const struct digest *diff_id,
			const struct digest *scope);

/* --- loop thread --- */

/* Gives a reference back; the last one unmounts, by a thread of our own. */
void layer_release(struct engine *en, struct layer *l);
/*
 * Unmounts the layer by a thread of our own if it has no reference, and tries again for as long
 * as it is in use.
 */
void layer_reap(struct engine *en, const struct digest *diff_id, const struct digest *scope);

/*
 * Every span is CLEAN and the whole has the diff_id: the layer costs nothing any more. Its marks
 * are taken off. Not while it is being evicted.
 */
void layer_completed(struct engine *en, struct layer *l);

#endif
