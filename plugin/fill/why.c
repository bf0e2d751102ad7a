/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "plugin/fill/flight_impl.h"

static const struct layer_source *failing(const struct layer *l)
{
	for (uint32_t i = 0; i < l->nsources; i++)
		if (l->sources[i].fails > 0 || l->sources[i].bad)
			return &l->sources[i];
	return NULL;
}

static const char *stage_words(const struct layer *l, const struct span *s)
{
	if (s->state == SPAN_PARKED)
		return "it is being evicted";
	if (s->state == SPAN_CHECKING || s->state == SPAN_UNPROVEN)
		return "what is on disk is being checked";
	if (s->state != SPAN_QUEUED)
		return "nothing: it is about to be answered";
	if (s->stage == STAGE_WORK)
		return "it is being checked and written";
	if (s->stage == STAGE_RUN)
		return "it is being fetched";
	return l->nsources > 0 ? "it waits for a fetcher" : "it has no source";
}

void flight_why(const struct layer *l, uint32_t first, uint32_t last, uint32_t *ret_span, char *out,
		size_t size)
{
	const struct layer_source *s = failing(l);
	char where[LIMIT_PATH];

	while (first < last && span_present(&l->spans[first]))
		first++;
	*ret_span = first;
	if (s && l->spans[first].state == SPAN_QUEUED)
		snprintf(out, size, "%s: %s", source_name(s, where, sizeof(where)), s->last_error);
	else
		snprintf(out, size, "%s", stage_words(l, &l->spans[first]));
}
