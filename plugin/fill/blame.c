/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "plugin/engine.h"
#include "plugin/fault/slots.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/log.h"

/*
 * Fetchers that one span may take down before its source is failed for it. Nobody can tell a span
 * that kills from one that was in hand when something else did, the kernel for want of memory or a
 * person; a few of those in a row must not cost an innocent reader its bytes. What does kill costs
 * no more than so many fetchers' starts.
 */
#define DEATHS_MAX 10
/* Who says so often that we may not have a blob has taken it from us. */
#define DENIED_TOLD 3

enum blame {
	BLAME_SOON,   /* may pass: the source is left alone for a moment */
	BLAME_SPAN,   /* this source can not give this span, nor any that needs it */
	BLAME_BLOB,   /* this source has not got the blob */
	BLAME_DENIED, /* it does not give it to us; a token server's trouble looks like that, too */
	BLAME_SOURCE, /* this source gives wrong bytes */
};

static enum blame blame_of(int code)
{
	switch (code) {
	case -EBADMSG:
		return BLAME_SOURCE;
	case -ENOENT:
		return BLAME_BLOB;
	case -EACCES:
		return BLAME_DENIED;
	case -ENODATA:
	case -EINVAL:
	case -EFBIG:
		return BLAME_SPAN;
	default:
		return BLAME_SOON;
	}
}

/* Behind the last of the spans that this source cannot give without what the run stopped at. */
static uint32_t cut_off(const struct run *run)
{
	return plan_point_end(run->layer->sources[run->source].map, run->next);
}

/*
 * The fetcher died: over the span it owed next, as far as anybody can tell. That may be one that
 * nobody asked for and that is only passed on the way from the access point.
 */
static void blame_death(struct run *run)
{
	struct layer *l = run->layer;
	struct span *s = &l->spans[run->next];
	uint32_t end = cut_off(run);
	char name[LAYER_NAME];

	snprintf(l->sources[run->source].last_error, sizeof(l->sources[run->source].last_error),
		 "a fetcher died over span %" PRIu32, run->next);
	if (++s->deaths < DEATHS_MAX)
		return;
	s->deaths = 0;
	for (uint32_t i = run->next; i < end; i++)
		l->spans[i].poison |= source_bit(run->source);
	log_error("%s span %" PRIu32 ": %d fetchers died over it; this source is failed for it "
		  "and for what comes behind it, up to span %" PRIu32,
		  layer_name(l, name), run->next, DEATHS_MAX, end - 1);
}

static void blame(struct flight *f, struct run *run, int code, const char *text,
		  uint32_t retry_after_s)
{
	struct layer *l = run->layer;
	bool never = f->en->slots->settings.deadline_ms == DEADLINE_NEVER;
	enum blame b = blame_of(code);
	uint32_t end;

	if (code == -ECANCELED)
		return;
	if (code == 0) {
		blame_death(run);
		return;
	}
	end = cut_off(run);
	if (b == BLAME_SOURCE)
		source_bad(f, l, run->source, run->next, end, text);
	else
		source_failed(f, l, run->source, text, retry_after_s, b == BLAME_SOON);
	if (b == BLAME_DENIED)
		source_denied(f, l, run->source);
	/* Said once it may be a token that was over too early. */
	if (b == BLAME_BLOB || (b == BLAME_DENIED && l->sources[run->source].fails >= DENIED_TOLD))
		flight_source_gone(l, run->source, code, text);
	/* Who waits for ever waits for the blob to come back, too. */
	for (uint32_t i = run->next; i < run->end; i++)
		if (l->spans[i].stage == STAGE_RUN &&
		    ((b == BLAME_BLOB && !never) || (b == BLAME_SPAN && i < end)))
			l->spans[i].refused |= source_bit(run->source);
}

void run_end(struct flight *f, struct run *run)
{
	struct layer *l = run->layer;

	run->layer = NULL;
	flight_let_go(f, l);
	flight_kick(f);
}

void run_failed(struct flight *f, struct run *run, int code, const char *text,
		uint32_t retry_after_s)
{
	struct layer *l = run->layer;

	if (run->next < run->end)
		blame(f, run, code, text, retry_after_s);
	/* Backwards, as each goes to the front of its queue. */
	for (uint32_t i = run->end; i > run->next; i--) {
		struct span *s = &l->spans[i - 1];

		if (s->state == SPAN_QUEUED && s->stage == STAGE_RUN)
			span_again(f, l, i - 1);
	}
	run_end(f, run);
}
