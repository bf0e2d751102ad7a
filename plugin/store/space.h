/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_SPACE_H
#define PLUGIN_STORE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

/*
 * How much content the store may hold, and what goes when it is too much: what no fault has wanted
 * for longest, if it is provably idle and not pinned (evict.h). Nobody is denied for it.
 *
 *	cache.max   content may not grow past this: evicted, else EDQUOT
 *	cache.low   eviction goes down to this; it begins half-way between the two, so that
 *	            readers seldom wait for it
 *	(neither)   only a file system that says ENOSPC or EDQUOT makes anything go
 *
 * Bytes are counted as the file system has them, and from there on as spans come and go. All are
 * the loop thread's unless it says otherwise.
 */
struct space;

int space_new(struct engine *en, struct space **ret);
struct space *space_free(struct space *s); /* NULL-safe */

/*
 * Before @bytes are written to a tar: 0, and they count, or -EDQUOT. Then space_wrote(), or
 * space_give_back() when it failed. What nobody waits for (@waited false) never makes anything else
 * go.
 */
int space_take(struct space *s, uint64_t bytes, bool waited);
void space_wrote(struct space *s, uint64_t bytes);
void space_give_back(struct space *s, uint64_t bytes);
/* An eviction gave @bytes of disk back; @counts is what space_counts() said when it began. */
void space_freed(struct space *s, uint64_t bytes, uint64_t counts);
uint64_t space_counts(const struct space *s);

/*
 * @bytes could not be written for @err, and a reader waits for them. @disk: the file system said
 * so, by -ENOSPC or a quota of its own, so that only what goes helps; else it was space_take().
 * True: room is being made, and flight_room() is called in the end. False: that was just tried in
 * vain.
 */
bool space_want(struct space *s, uint64_t bytes, int err, bool disk);

/* What space_take() would say now of @bytes that nobody waits for. */
int space_closed(struct space *s, uint64_t bytes);

/* A thread of its own is making room; it ends soon once the engine is stopping. */
bool space_busy(const struct space *s);

struct space_state {
	uint64_t used; /* bytes; 0 until they were counted */
	uint64_t max, low;
	int full; /* -ENOSPC or -EDQUOT: the last attempt to make room was in vain; else 0 */
};
struct space_state space_state(const struct space *s);

/* --- tasks only --- */

/*
 * Makes room for @bytes; @disk as above. True when there may be some now. Waits for whoever is
 * making room already.
 */
bool space_make(struct engine *en, uint64_t bytes, bool disk);

/*
 * space_take(), and space_make() if need be; then writes. -ENOSPC, -EDQUOT: there is no room, and
 * nothing is idle. What was written to a file that the store does not list yet is settled when it
 * does, or when the file is gone.
 */
int space_pwrite(struct engine *en, int fd, const void *data, uint64_t len, uint64_t off);
void space_settle(struct engine *en, uint64_t bytes, bool listed);

#endif
