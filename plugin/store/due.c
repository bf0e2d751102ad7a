/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/due.h"

#include <time.h>

#include "plugin/loop.h"

static struct due **earliest(struct due_list *l)
{
	struct due **best = NULL;

	for (struct due **d = &l->first; *d; d = &(*d)->next)
		if (!best || (*d)->at_ms < (*best)->at_ms)
			best = d;
	return best;
}

/* By the clock of clock_ms(): setting the time of day changes nothing. */
static void wait_until(struct due_list *l, uint64_t at_ms)
{
	const struct timespec until = {.tv_sec = (time_t)(at_ms / 1000),
				       .tv_nsec = (long)(at_ms % 1000) * 1000000L};

	pthread_cond_clockwait(&l->changed, &l->lock, CLOCK_MONOTONIC, &until);
}

struct due *due_take(struct due_list *l)
{
	struct due **at, *d;

	while ((at = earliest(l))) {
		d = *at;
		if (d->at_ms <= clock_ms()) {
			*at = d->next;
			return d;
		}
		wait_until(l, d->at_ms);
	}
	return NULL;
}
