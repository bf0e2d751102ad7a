/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fill/plan.h"

#include "oci/index/blobmap.h"

#define BACKOFF_FIRST_MS 100u
#define BACKOFF_MAX_MS   2000u

/* The first span that the point @p serves: a span starts at its point or after it. */
static uint32_t first_of_point(const struct blobmap *m, uint32_t p)
{
	uint64_t size = blobmap_span_size(m);

	return (uint32_t)((blobmap_point_out(m, p) + size - 1) / size);
}

static uint32_t last_of_point(const struct blobmap *m, uint32_t span)
{
	uint32_t point = blobmap_span(m, span).point;

	while (span + 1 < blobmap_nspans(m) && blobmap_span(m, span + 1).point == point)
		span++;
	return span;
}

void plan_run(const struct blobmap *m, uint32_t span, uint32_t max,
	      enum plan_span (*look)(const void *ctx, uint32_t span), const void *ctx,
	      struct plan_run *ret)
{
	uint32_t point = blobmap_span(m, span).point;
	uint32_t first = first_of_point(m, point), last = last_of_point(m, span);

	while (last > span && look(ctx, last) == PLAN_LEAVE)
		last--;
	while (last + 1 < blobmap_nspans(m) && last + 1 - first < max &&
	       look(ctx, last + 1) == PLAN_WANTED)
		last++;
	ret->first = first;
	ret->n = last - first + 1;
	ret->point = point;
	ret->in_start = blobmap_point_in(m, point);
	ret->in_end = blobmap_span(m, last).in_end;
}

uint64_t plan_backoff_ms(uint32_t fails, uint32_t random)
{
	uint32_t ms = BACKOFF_FIRST_MS;

	while (--fails > 0 && ms < BACKOFF_MAX_MS)
		ms *= 2;
	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	return ms / 2 + random % (ms / 2 + 1);
}
