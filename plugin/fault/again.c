/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One read of an application is several events, one after the other: its read-ahead in pieces, and
 * where that was denied, the page that was wanted by itself (one event from read(2), two from a
 * page fault) before the application is told. All of them together have one deadline: once one was
 * denied, those that follow it in the same run are denied as they come, up to that page.
 *
 * Who tries again after that is given the full deadline. The page is in the page cache by then, if
 * not its content, so that the kernel asks for it once.
 */
#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/loop.h"

/* It comes within microseconds; on a machine that is drowning it waits for its deadline again. */
#define AGAIN_MS 500u

static bool begins_in(const struct denial *d, const struct layer *l, const struct slot *s)
{
	return d->layer == l && s->off >= d->off && s->off <= d->end;
}

void fault_note_denied(struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];

	if (s->group != SLOT_CONTENT || !w->layer || w->noted)
		return;
	w->noted = true;
	f->denied[f->ndenied++ % DENIALS] = (struct denial){.layer = w->layer,
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

/* The keeper has denied them, and our own tick has not seen that yet. */
static void note_what_is_being_denied(struct fault *f)
{
	for (uint32_t k = 0; k < f->nactive; k++) {
		uint32_t state = atomic_load(&f->slots->s[f->active[k]].state);

		if (state == SLOT_DENYING || state == SLOT_DENIED)
			fault_note_denied(f, f->active[k]);
	}
}

/* Has the application been told of this page? Then what it asks for now is a read of its own. */
static bool was_told(const struct fault *f, const struct slot *s, const struct layer *l)
{
	for (uint32_t k = 0; k < DENIALS; k++)
		if (f->denied[k].told && begins_in(&f->denied[k], l, s) &&
		    s->off + s->count <= f->denied[k].end)
			return true;
	return false;
}

static struct denial *run_of(struct fault *f, const struct slot *s, const struct layer *l)
{
	uint64_t now = clock_ms();

	for (uint32_t k = 0; k < DENIALS; k++) {
		struct denial *d = &f->denied[k];

		if (!d->told && d->pid == s->pid && begins_in(d, l, s) && now - d->at_ms < AGAIN_MS)
			return d;
	}
	return NULL;
}

bool fault_is_again(struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];
	struct denial *d;

	note_what_is_being_denied(f);
	d = run_of(f, s, w->layer);
	if (!d) {
		w->noted = was_told(f, s, w->layer);
		return false;
	}
	w->noted = true;
	d->at_ms = clock_ms();
	if (s->off + s->count > d->end)
		d->end = s->off + s->count;
	else
		d->told = true;
	return true;
}
