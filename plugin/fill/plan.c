/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fill/plan.h"

#include "oci/index/blobmap.h"

#define BACKOFF_FIRST_MS   100u
#define BACKOFF_MAX_MS     2000u
#define WRONG_FIRST_MS     1000u
#define WRONG_MAX_MS       60000u
#define PROBES_MAX         2u
#define RETRY_AFTER_MAX_MS 60000u

/* The first span that the point @p serves: a span starts at its point or after it. */
static uint32_t first_of_point(const struct blobmap *m, uint32_t p)
{
	uint64_t size = blobmap_span_size(m);

	return (uint32_t)((blobmap_point_out(m, p) + size - 1) / size);
}

uint32_t plan_point_end(const struct blobmap *m, uint32_t span)
{
	uint32_t point = blobmap_span(m, span).point;

	while (span < blobmap_nspans(m) && blobmap_span(m, span).point == point)
		span++;
	return span;
}

void plan_run(const struct blobmap *m, uint32_t span, uint32_t max,
	      enum plan_span (*look)(const void *ctx, uint32_t span), const void *ctx,
	      struct plan_run *ret)
{
	uint32_t point = blobmap_span(m, span).point;
	uint32_t first = first_of_point(m, point), last = plan_point_end(m, span) - 1;

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

/* @first doubled with each time, at most @max; of it the random half. */
static uint64_t pause_ms(uint32_t times, uint32_t first, uint32_t max, uint32_t random)
{
	uint32_t ms = first;

	while (--times > 0 && ms < max)
		ms *= 2;
	if (ms > max)
		ms = max;
	return ms / 2 + random % (ms / 2 + 1);
}

uint64_t plan_backoff_ms(uint32_t fails, uint32_t random)
{
	return pause_ms(fails, BACKOFF_FIRST_MS, BACKOFF_MAX_MS, random);
}

uint64_t plan_wrong_ms(uint32_t times, uint32_t random, uint32_t deadline_ms)
{
	uint32_t max = deadline_ms / 2 < WRONG_MAX_MS ? deadline_ms / 2 : WRONG_MAX_MS;

	return pause_ms(times, WRONG_FIRST_MS, max, random);
}

uint64_t plan_retry_after_ms(uint32_t retry_after_s, uint32_t deadline_ms)
{
	uint64_t asked = (uint64_t)retry_after_s * 1000, most = deadline_ms / 3;

	if (most > RETRY_AFTER_MAX_MS)
		most = RETRY_AFTER_MAX_MS;
	return asked < most ? asked : most;
}

uint32_t plan_host_cap(uint32_t fetchers, uint32_t fails)
{
	uint32_t quarter = fetchers / 4 ? fetchers / 4 : 1;

	if (fails > 0)
		return quarter < PROBES_MAX ? quarter : PROBES_MAX;
	return fetchers > 1 ? fetchers - quarter : 1;
}
