/* SPDX-License-Identifier: Apache-2.0 */
/* Exec and open on a layer's file system. */
#include <errno.h>
#include <stdlib.h>

#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/fill/flight.h"
#include "plugin/store/layer.h"
#include "plugin/uapi.h"

static int by_nid(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static const struct busy *find_busy(const struct fault *f, const struct layer *l, uint64_t nid)
{
	for (const struct busy *b = f->busy; b; b = b->next)
		if (b->layer == l && bsearch(&nid, b->nids, b->n, sizeof(nid), by_nid))
			return b;
	return NULL;
}

/*
 * The whole executable is brought in before it runs. What cannot be had in time comes on demand
 * later, which is always correct.
 */
void fault_try_exec(struct fault *f, uint32_t i)
{
	struct wait *w = &f->wait[i];

	if (w->layer->quarantined) {
		fault_refuse(f, i, EIO);
	} else if (fault_spans_present(w->layer, w->first, w->last)) {
		fault_answer(f, i, FAN_ALLOW);
	} else {
		w->missed = true;
		flight_want(f->en->flight, w->layer, w->first, w->last, PRIO_DEMAND);
	}
}

void fault_new_exec(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];
	const struct busy *b = find_busy(f, w->layer, s->ino);
	const struct extent *x;

	w->busy = b && b->wait;
	if (w->busy) {
		atomic_store(&s->frozen, 1);
		return;
	}
	if (b) {
		fault_refuse(f, i, EBUSY);
		return;
	}
	atomic_store(&s->frozen, 0);
	x = extents_by_nid(&w->layer->extents, s->ino);
	if (!(s->mask & FAN_OPEN_EXEC_PERM) || !x || x->size > f->slots->settings.exec_fill_max) {
		fault_answer(f, i, FAN_ALLOW);
		return;
	}
	layer_spans_of(w->layer, x->tar_off, x->size, &w->first, &w->last);
	fault_try_exec(f, i);
}

/* --- an eviction holds them up --- */

static struct busy **busy_place(struct fault *f, const struct layer *l)
{
	struct busy **at = &f->busy;

	while (*at && (*at)->layer != l)
		at = &(*at)->next;
	return at;
}

static void release_held(struct fault *f, const struct layer *l)
{
	for (uint32_t k = f->nactive; k-- > 0;)
		if (k < f->nactive && f->wait[f->active[k]].layer == l &&
		    f->wait[f->active[k]].busy)
			fault_handle(f, f->active[k]);
}

void fault_busy_set(struct engine *en, struct layer *l, const uint64_t *nids, size_t n, bool wait)
{
	struct fault *f = en->fault;
	struct busy **at = busy_place(f, l);

	if (*at) {
		struct busy *old = *at;

		*at = old->next;
		free(old);
	}
	if (nids) {
		struct busy *b = calloc(1, sizeof(*b));

		/* Without it opens are simply not refused: the lease proof does not need it. */
		if (b) {
			*b = (struct busy){
				.layer = l, .nids = nids, .n = n, .wait = wait, .next = f->busy};
			f->busy = b;
		}
	}
	release_held(f, l);
}
