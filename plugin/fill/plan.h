/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILL_PLAN_H
#define PLUGIN_FILL_PLAN_H

#include <stdint.h>

struct blobmap;

/* Pure planning: what one fetcher should be asked for, and when to ask again. No state, no I/O. */

/* How the planner sees a span. */
enum plan_span {
	PLAN_LEAVE,  /* there already, or on its way */
	PLAN_ABSENT, /* not there, and nobody asked for it */
	PLAN_WANTED, /* waits in a queue */
};

/* Spans in one job when each can be decoded on its own: a reader waits, or nobody does. */
#define PLAN_RUN_DEMAND 4u
#define PLAN_RUN_FILL   8u

struct plan_run {
	uint32_t first, n;         /* the spans that are decoded and delivered, in order */
	uint32_t point;            /* where decoding starts */
	uint64_t in_start, in_end; /* bytes of the blob */
};

/*
 * The run for @span, which is wanted: the wanted spans right behind it are merged in, up to @max
 * spans. When its point serves more spans than this one (a zstd frame larger than a span), the
 * run covers them all from the first to the last that is not PLAN_LEAVE, however many they are:
 * decoding any of them passes all before it, and doing that once is the only cheap way.
 */
void plan_run(const struct blobmap *m, uint32_t span, uint32_t max,
	      enum plan_span (*look)(const void *ctx, uint32_t span), const void *ctx,
	      struct plan_run *ret);

/* Behind the last of the spans from @span on that are decoded from the same point as it. */
uint32_t plan_point_end(const struct blobmap *m, uint32_t span);

/*
 * How long to leave a source alone after @fails failures in a row (>= 1): 100 ms doubled each
 * time, at most 2 s, of which the random half keeps hosts from asking in step.
 */
uint64_t plan_backoff_ms(uint32_t fails, uint32_t random);

/*
 * The same for a source that has given wrong bytes @times in a row: 1 s doubled, at most a minute
 * and half of what a reader waits. A proxy's hiccup is over by then; damage is not asked for often.
 */
uint64_t plan_wrong_ms(uint32_t times, uint32_t random, uint32_t deadline_ms);

/*
 * How long a host is left alone that asked for @retry_after_s: as long as it said, but so that most
 * readers who wait for @deadline_ms see one more attempt, and at most a minute.
 */
uint64_t plan_retry_after_ms(uint32_t retry_after_s, uint32_t deadline_ms);

/*
 * How many of @fetchers one host may have at once: all but a quarter, so that one that turns silent
 * leaves some to the others; and few while it has only failed (@fails > 0), to find out whether it
 * is well again.
 */
uint32_t plan_host_cap(uint32_t fetchers, uint32_t fails);

#endif
