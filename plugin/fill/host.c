/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/engine.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/loop.h"

struct host *host_of(struct flight *f, const struct layer_source *s)
{
	struct host *h = f->hosts;

	if (s->at.local)
		return NULL;
	while (h && strcmp(h->name, s->at.at.host) != 0)
		h = h->next;
	if (h)
		return h;
	h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	snprintf(h->name, sizeof(h->name), "%s", s->at.at.host);
	h->next = f->hosts;
	return f->hosts = h;
}

void host_failed(struct flight *f, struct host *h, uint32_t retry_after_s)
{
	uint64_t ms = plan_backoff_ms(++h->fails, flight_random(f));
	uint64_t asked = plan_retry_after_ms(retry_after_s, f->en->slots->settings.deadline_ms);

	h->not_before_ms = clock_ms() + (asked > ms ? asked : ms);
}

uint32_t host_running(const struct flight *f, const struct host *h)
{
	uint32_t n = 0;

	for (const struct fetcher *fe = f->fetchers; fe; fe = fe->next)
		n += fe->run.layer && fe->run.host == h;
	return n;
}

void hosts_free(struct flight *f)
{
	while (f->hosts) {
		struct host *h = f->hosts;

		f->hosts = h->next;
		free(h);
	}
}
