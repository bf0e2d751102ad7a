/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_EVICT_H
#define PLUGIN_STORE_EVICT_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/digest.h"

struct engine;
struct err;
struct layer;

/*
 * Gives the disk space of a layer's content back (law 8). Only what is provably idle goes:
 *
 *   content mark on (a complete layer has none) → spans PARKED: events on them wait, and the
 *   loop answers nothing between that and the look before it → a write lease on every file that
 *   overlaps is granted and given back: nobody has it open, mapped or executing, so nobody is
 *   between an answer of ours and the kernel's copy → the spans are punched out → ABSENT: who
 *   waited gets them again
 *
 * A span goes only if every file in it was granted. EROFS's own cached pages stay; they are right.
 */
struct evict_want {
	bool deny;        /* explicit: open and exec of a file being evicted are held up... */
	bool wait;        /* ...until it is done; false: refused with EBUSY */
	uint64_t cold_ns; /* only spans no fault has wanted for so long; 0: all */
	uint64_t free;    /* stop once so many bytes are free; UINT64_MAX: no end */
	bool (*cancelled)(void *ctx); /* NULL: never */
	void *ctx;
};

/* Bytes of disk. */
struct evicted {
	uint64_t freed;
	uint64_t kept_in_use;
	bool shared; /* kept because of containers that a tarnd which was killed left */
};

/*
 * Tasks only. What was freed until a failure counts. -EBUSY: somebody else evicts this layer, whose
 * end an explicit eviction waits for.
 */
int evict_layer(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		const struct evict_want *want, struct evicted *ret, struct err *e);

/*
 * How long ago the content of a tar that is not mounted was used, for all that is known: a read of
 * it is not seen, writing it is, and its last mount is. A descriptor of the tar; 0 when in doubt.
 */
uint64_t evict_tar_age_ns(int fd);

#endif
