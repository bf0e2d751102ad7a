/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A read-ahead that is denied the kernel tries once more, as a read of the page that was wanted,
 * before the reader is told. It is the same read: it has had its deadline, and is not given
 * another.
 */
#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/loop.h"

/* It comes within microseconds; on a machine that is drowning it waits for its deadline again. */
#define AGAIN_MS 3000u

void fault_note_denied(struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];

	if (s->group != SLOT_CONTENT || !f->wait[i].layer || f->wait[i].again)
		return;
	f->denied[f->ndenied++ % DENIALS] = (struct denial){.layer = f->wait[i].layer,
							    .pid = s->pid,
							    .off = s->off,
							    .end = s->off + s->count,
							    .at_ms = clock_ms()};
}

void fault_forget_denied(struct fault *f, const struct layer *l)
{
	for (uint32_t k = 0; k < DENIALS; k++)
		if (f->denied[k].layer == l)
			f->denied[k].layer = NULL;
}

static bool was_noted(struct fault *f, const struct slot *s, const struct layer *l)
{
	for (uint32_t k = 0; k < DENIALS; k++) {
		struct denial *d = &f->denied[k];

		if (d->layer != l || d->pid != s->pid || s->off < d->off || s->off >= d->end)
			continue;
		d->layer = NULL;
		if (clock_ms() - d->at_ms < AGAIN_MS)
			return true;
	}
	return false;
}

/* The keeper has denied it, and our own tick has not seen that yet. */
static bool is_being_denied(struct fault *f, const struct slot *s, const struct layer *l)
{
	for (uint32_t k = 0; k < f->nactive; k++) {
		const struct slot *o = &f->slots->s[f->active[k]];
		struct wait *w = &f->wait[f->active[k]];
		uint32_t state = atomic_load(&o->state);

		if ((state != SLOT_DENYING && state != SLOT_DENIED) || w->layer != l || w->again ||
		    o->pid != s->pid || s->off < o->off || s->off - o->off >= o->count)
			continue;
		w->again = true;
		return true;
	}
	return false;
}

bool fault_is_again(struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];

	w->again = was_noted(f, s, w->layer) || is_being_denied(f, s, w->layer);
	return w->again;
}
