/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_CLAIM_H
#define PLUGIN_STORE_CLAIM_H

#include <stdbool.h>

#include "oci/base/digest.h"

/*
 * Who works on what: a task that wants something another task has claimed waits for it. Tasks
 * only, never the loop thread. A claim lives on its owner's stack:
 *
 *	_cleanup_claim_ struct claim c = CLAIM_INIT;
 *	r = claim_take(&c, CLAIM_INGEST, &diff_id, NULL, NULL);
 *
 * Order, where a task needs two: CLAIM_INGEST, then CLAIM_MOUNT, then CLAIM_IMAGES. One task never
 * has two of a kind.
 */
enum claim_kind {
	CLAIM_INGEST, /* by diff_id: a layer's files are being made or removed */
	CLAIM_MOUNT,  /* by diff_id: a layer is being mounted or unmounted */
	CLAIM_IMAGES, /* one for all: the records of images are being changed */
};

struct claim {
	enum claim_kind kind;
	struct digest key;
	bool held;
	struct claim *next;
};

#define CLAIM_INIT                                                                                 \
	{                                                                                          \
		.held = false                                                                      \
	}

/*
 * Waits until nobody else has (@kind, @key). @cancelled (may be NULL) is asked now and then
 * while it waits; true ends the wait with -EPIPE. @key NULL is one key of its own.
 */
int claim_take(struct claim *c, enum claim_kind kind, const struct digest *key,
	       bool (*cancelled)(void *ctx), void *ctx);
/* The same without waiting: -EBUSY. */
int claim_try(struct claim *c, enum claim_kind kind, const struct digest *key);
void claim_put(struct claim *c); /* harmless when it is not held */

#define _cleanup_claim_ __attribute__((cleanup(claim_put)))

#endif
