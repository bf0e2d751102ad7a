/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FAULT_FAULT_H
#define PLUGIN_FAULT_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;
struct layer;

/*
 * From a kernel event to a kernel answer. Loop thread only.
 *
 *	event → slot → layer by (dev, ino) → every span of the range there: ALLOW
 *	                                   → else flight_want(), and again when spans change
 *
 * What a slot waits for is not counted: whenever spans of a layer change, the slots that wait on
 * that layer are looked at again. Between that look and the answer nothing else runs, which is the
 * barrier that eviction relies on (law 8).
 */
struct fault;

/* Takes over what earlier engines left in the slots, and begins to read both groups. */
int fault_new(struct engine *en, struct fault **ret);
struct fault *fault_free(struct fault *f);

/* Something about @l's spans [first, last] changed: waiting slots are looked at again. */
void fault_recheck(struct engine *en, struct layer *l, uint32_t first, uint32_t last);
/* Spans of @l cannot be had: slots that need one of them are denied with @err (law 9). */
void fault_deny(struct engine *en, struct layer *l, uint32_t first, uint32_t last, int err);
/* A layer appeared: slots that named it before it was known are handled. */
void fault_layer_ready(struct engine *en, struct layer *l);
/* All layers of the keeper are known now: slots that name none of them are denied. */
void fault_all_known(struct engine *en);
/* The layer is going: no slot may point to it any more (they are denied; there should be none). */
void fault_layer_gone(struct engine *en, struct layer *l);

/*
 * What slot @i waits for, in words, and the first span that is missing. False when nobody can tell:
 * its layer is not known yet, or it is answered.
 */
bool fault_why(const struct engine *en, uint32_t i, uint32_t *ret_span, char *out, size_t size);

/*
 * An explicit eviction of @l began or ended: while @nids (sorted, borrowed) is set, open and exec
 * of those inodes get EBUSY, or wait when @wait. NULL ends it and releases who waited.
 */
void fault_busy_set(struct engine *en, struct layer *l, const uint64_t *nids, size_t n, bool wait);

#endif
