/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FAKE_FLIGHT_H
#define TESTS_UNIT_FAKE_FLIGHT_H

/*
 * Flight, faults and the engine's list, as far as mounting a layer needs them: spans that are
 * wanted are there at once, and nobody waits for anything.
 */

#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "tests/unit/fake_keeper.h"

static struct {
	unsigned ready, gone, drains, checks;
	bool stuck; /* what is wanted is tried, and fails every time */
} fake_fill;

struct layer *engine_layer(struct engine *en, const struct digest *diff_id,
			   const struct digest *scope)
{
	struct layer *l = en->layers;

	while (l && !(digest_equal(&l->diff_id, diff_id) && digest_equal(&l->scope, scope)))
		l = l->next;
	return l;
}

int engine_attached(struct engine *en, const struct keep_attach *at)
{
	for (uint32_t i = 0; i < at->nlayers; i++)
		engine_layer(en, &at->layer[i], &(const struct digest){.sum = {0}})->refs++;
	return 0;
}

void flight_want(struct flight *f, struct layer *l, uint32_t first, uint32_t last, enum prio prio)
{
	for (uint32_t i = first; i <= last; i++) {
		span_set(l, i, SPAN_QUEUED);
		span_set(l, i, fake_fill.stuck ? SPAN_ABSENT : SPAN_CLEAN);
	}
}

void flight_sync(struct flight *f, struct layer *l, void (*done)(void *ctx, int result), void *ctx)
{
	if (done)
		done(ctx, 0);
}

void flight_check_complete(struct flight *f, struct layer *l)
{
	fake_fill.checks++;
	l->complete = l->nclean == l->index.nspans;
}

void flight_drain(struct flight *f, struct layer *l, void (*done)(void *ctx, int result), void *ctx)
{
	fake_fill.drains++;
	done(ctx, 0);
}

void fault_layer_ready(struct engine *en, struct layer *l)
{
	fake_fill.ready++;
}

void fault_layer_gone(struct engine *en, struct layer *l)
{
	fake_fill.gone++;
}

void fault_all_known(struct engine *en) {}

#endif
