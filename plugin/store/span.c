/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/pages.h"

static uint32_t *counter_of(struct layer *l, enum span_state state)
{
	switch (state) {
	case SPAN_ABSENT:
		return &l->nabsent;
	case SPAN_QUEUED:
	case SPAN_CHECKING:
		return &l->nbusy;
	case SPAN_DIRTY:
		return &l->ndirty;
	case SPAN_CLEAN:
		return &l->nclean;
	case SPAN_UNPROVEN:
	case SPAN_LOST:
	case SPAN_PARKED:
		break;
	}
	return NULL;
}

static void drop_crc(struct span *s)
{
	free(s->page_crc);
	s->page_crc = NULL;
}

static void let_go(struct layer *l, uint32_t span)
{
	struct span *s = &l->spans[span];

	s->held = pages_let_go(s->held, index_span_len(&l->index, span));
}

void span_set(struct layer *l, uint32_t span, enum span_state state)
{
	struct span *s = &l->spans[span];
	uint32_t *from = counter_of(l, s->state), *to = counter_of(l, state);

	if (from)
		(*from)--;
	if (to)
		(*to)++;
	if (state == SPAN_PARKED) {
		if (s->state != SPAN_PARKED)
			s->before = s->state;
	} else if (state != SPAN_DIRTY && state != SPAN_LOST) {
		drop_crc(s);
	} else if (state == SPAN_DIRTY && s->state != SPAN_PARKED) {
		s->epoch = l->epoch;
		s->touched_ns = clock_ns();
	}
	/* What a failed fdatasync took from those who come stays for who was let at it before. */
	if (state == SPAN_CLEAN || state == SPAN_ABSENT || state == SPAN_QUEUED)
		let_go(l, span);
	if (state != SPAN_QUEUED && state != SPAN_CHECKING)
		s->stage = STAGE_NONE;
	s->state = (uint8_t)state;
	l->changes++;
}

void span_distrust(struct layer *l, uint32_t span)
{
	struct span *s = &l->spans[span];

	if (s->state == SPAN_PARKED)
		s->before = SPAN_UNPROVEN;
	else
		span_set(l, span, SPAN_UNPROVEN);
	s->check_ms = clock_ms() + SPAN_COPIED_MS;
}

int layer_spans_new(struct layer *l)
{
	l->spans = calloc(l->index.nspans ? l->index.nspans : 1, sizeof(*l->spans));
	if (!l->spans)
		return -ENOMEM;
	/* When it was last wanted is not written down: nothing is older than this life. */
	for (uint32_t i = 0; i < l->index.nspans; i++)
		l->spans[i].touched_ns = clock_ns();
	l->nabsent = l->index.nspans;
	l->nclean = l->ndirty = l->nbusy = 0;
	return 0;
}

void layer_spans_free(struct layer *l)
{
	for (uint32_t i = 0; l->spans && i < l->index.nspans; i++) {
		drop_crc(&l->spans[i]);
		let_go(l, i);
	}
	free(l->spans);
	l->spans = NULL;
}

void layer_spans_of(const struct layer *l, uint64_t off, uint64_t len, uint32_t *ret_first,
		    uint32_t *ret_last)
{
	uint32_t end = l->index.nspans ? l->index.nspans - 1 : 0;
	uint64_t first = off / l->index.span_size, last = first;

	if (len > 0) {
		uint64_t stop;

		if (__builtin_add_overflow(off, len - 1, &stop))
			stop = UINT64_MAX;
		last = stop / l->index.span_size;
	}
	*ret_first = first > end ? end : (uint32_t)first;
	*ret_last = last > end ? end : (uint32_t)last;
}
