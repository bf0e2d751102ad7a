/* SPDX-License-Identifier: Apache-2.0 */
/* Reads of a tar: are the spans there? */
#include <errno.h>

#include "plugin/engine.h"
#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/fill/flight.h"
#include "plugin/store/layer.h"
#include "plugin/uapi.h"

bool fault_spans_present(const struct layer *l, uint32_t first, uint32_t last)
{
	for (uint32_t k = first; k <= last; k++)
		if (!span_present(&l->spans[k]))
			return false;
	return true;
}

/* Time that goes by because of an eviction is not the source's. */
static void note_frozen(struct slot *s, const struct layer *l, const struct wait *w)
{
	uint32_t parked = 0;

	for (uint32_t k = w->first; k <= w->last; k++)
		parked += l->spans[k].state == SPAN_PARKED;
	atomic_store(&s->frozen, parked > 0);
}

/*
 * The last span worth bringing in ahead of a reader that is at @off. Small files are read one after
 * the other, in the order of the tar; whoever reads a large one is done at its end.
 */
static uint32_t read_ahead_end(const struct fault *f, const struct layer *l, uint64_t off)
{
	size_t i = extents_first(&l->extents, off);
	const struct extent *x = i < l->extents.n ? &l->extents.v[i] : NULL;

	if (!x || x->size <= f->slots->settings.readahead)
		return l->index.nspans - 1;
	return (uint32_t)((x->tar_off + x->size - 1) / l->index.span_size);
}

/*
 * A reader that has come to the next span is about to want the ones behind it. Whoever jumps
 * around gets the span it asked for and no more.
 */
static void read_ahead(struct fault *f, struct layer *l, uint64_t off, uint32_t span)
{
	uint32_t n = f->slots->settings.readahead / l->index.span_size;
	bool next = span == l->last_sequential + 1;
	uint32_t end;

	if (span == l->last_sequential)
		return;
	l->last_sequential = span;
	end = next ? read_ahead_end(f, l, off) : 0;
	if (span >= end)
		return;
	if (n > end - span)
		n = end - span;
	flight_want(f->en->flight, l, span + 1, span + n, PRIO_AHEAD);
}

static bool content_there(struct fault *f, const struct slot *s, const struct wait *w)
{
	struct layer *l = w->layer;

	return fault_spans_present(l, w->first, w->last) &&
	       flight_hit_ok(f->en->flight, l, s->off, s->count) &&
	       fault_spans_present(l, w->first, w->last);
}

void fault_try_content(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];
	struct layer *l = w->layer;

	if (l->quarantined) {
		fault_refuse(f, i, EIO);
		return;
	}
	if (content_there(f, s, w)) {
		const uint32_t last = w->last;
		const uint64_t off = s->off;

		if (!w->missed)
			f->en->count.hits++;
		fault_answer(f, i, FAN_ALLOW);
		read_ahead(f, l, off, last);
		return;
	}
	if (!w->missed)
		f->en->count.misses++;
	w->missed = true;
	note_frozen(s, l, w);
	flight_want(f->en->flight, l, w->first, w->last, PRIO_DEMAND);
}

void fault_new_content(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];

	/* Behind the end there is nothing to bring. */
	if (s->off >= w->layer->index.tar_size) {
		fault_answer(f, i, FAN_ALLOW);
		return;
	}
	if (s->count == 0) /* the kernel may leave the length open */
		s->count = 1;
	if (s->count > w->layer->index.tar_size - s->off)
		s->count = w->layer->index.tar_size - s->off;
	layer_spans_of(w->layer, s->off, s->count, &w->first, &w->last);
	for (uint32_t k = w->first; k <= w->last; k++)
		w->layer->spans[k].touched_ns = s->since_ns;
	if (!fault_spans_present(w->layer, w->first, w->last) && fault_is_again(f, i))
		fault_refuse(f, i, EIO);
	else
		fault_try_content(f, i);
}
