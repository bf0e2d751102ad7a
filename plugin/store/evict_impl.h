/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_EVICT_IMPL_H
#define PLUGIN_STORE_EVICT_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "plugin/store/evict.h"

/* Between evict.c (one layer) and evict_batch.c (some spans of it at a time). */

struct engine;
struct err;
struct layer;

#define BATCH_SPANS 8 /* parked at a time: readers of them wait for one round of leases */

struct nids {
	uint64_t *v; /* owned; sorted and distinct */
	size_t n, cap;
};

/* One eviction of one mounted layer. */
struct work {
	struct engine *en; /* borrowed */
	const struct evict_want *want;
	struct digest diff_id, scope;
	struct layer *l; /* a reference is held */
	bool was_complete;
	uint64_t counts; /* space_counts() when it began */
	uint32_t cursor; /* the next span to look at */
	uint32_t batch[BATCH_SPANS];
	bool granted[BATCH_SPANS];
	uint32_t nbatch;
	struct nids nids; /* files that overlap the batch */
	bool *lease;      /* owned; by nids */
	struct evicted done;
};

/* On the loop, @ctx is the work: parks the next spans. Returns how many, 0 at the end. */
int evict_park(void *ctx);
/* On the loop: what was punched is absent, what was not is as before, and who waited goes on. */
int evict_batch_done(void *ctx);
/* On the loop: all of it is as before. */
int evict_batch_undo(void *ctx);

/* In the task: leases on the files of the batch. */
int evict_ask_leases(struct work *w, struct err *e);
/* In the task: punches those spans all of whose files were granted. */
void evict_punch(struct work *w);

#endif
