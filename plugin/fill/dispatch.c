/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/sources.h"

/* Spans with a trouble of their own that are passed to find one that can be had. */
#define LOOK_PAST 64
/* Demand past its deadline is looked for so often while its sources are in trouble. */
#define EXPIRE_EVERY_MS 500u

static bool expired(const struct flight *f, const struct span *s)
{
	uint32_t deadline_ms = f->en->slots->settings.deadline_ms;

	return deadline_ms != DEADLINE_NEVER && clock_ms() - s->wanted_ms >= deadline_ms;
}

/* --- the end of a span's way, without it --- */

void span_give_up(struct flight *f, struct layer *l, uint32_t span, int err)
{
	struct span *s = &l->spans[span];
	bool demand = s->prio == PRIO_DEMAND;

	s->refused = 0;
	span_set(l, span, SPAN_ABSENT);
	if (demand)
		fault_deny(f->en, l, span, span, err);
}

/* No source has it, or none had it in time. */
static void no_source(struct flight *f, struct layer *l, uint32_t span, const char *why)
{
	const struct layer_source *s = NULL;
	char name[LAYER_NAME], where[LIMIT_PATH];

	for (uint32_t i = 0; i < l->nsources; i++)
		if (!s || l->sources[i].last_error[0])
			s = &l->sources[i];
	if (l->spans[span].prio == PRIO_DEMAND && s)
		log_error("%s span %" PRIu32 ": %s; %s: %s", layer_name(l, name), span, why,
			  source_name(s, where, sizeof(where)), s->last_error);
	else if (l->spans[span].prio == PRIO_DEMAND)
		log_error("%s span %" PRIu32 ": it has no source", layer_name(l, name), span);
	span_give_up(f, l, span, EIO);
}

void span_again(struct flight *f, struct layer *l, uint32_t span)
{
	struct span *s = &l->spans[span];

	if (s->prio != PRIO_DEMAND) {
		s->refused = 0;
		span_set(l, span, SPAN_ABSENT);
	} else if (expired(f, s)) {
		no_source(f, l, span, "not had before the deadline");
	} else {
		queue_put(f, l, span, true);
	}
}

/* Reads go on as long as readers do: each of them renews wanted_ms. */
static void expire_waiting(struct flight *f)
{
	struct layer *l = f->ring[PRIO_DEMAND];
	uint64_t now = clock_ms();

	if (now - f->expired_ms < EXPIRE_EVERY_MS)
		return;
	f->expired_ms = now;
	for (uint32_t n = f->nring[PRIO_DEMAND]; n > 0; n--) {
		struct layer *after = l->queue[PRIO_DEMAND].next;
		uint32_t at = l->queue[PRIO_DEMAND].head;

		while (at) {
			uint32_t span = at - 1;

			at = l->spans[span].next;
			if (!expired(f, &l->spans[span]))
				continue;
			queue_drop(f, l, span);
			no_source(f, l, span, "not had before the deadline");
		}
		l = after;
	}
}

/* --- a run begins --- */

struct view {
	const struct layer *layer; /* borrowed */
	uint32_t source;           /* source_bit() of the one that is to be asked */
};

static enum plan_span look(const void *ctx, uint32_t span)
{
	const struct view *v = ctx;
	const struct span *s = &v->layer->spans[span];

	if ((s->poison | s->refused) & v->source)
		return PLAN_LEAVE;
	if (s->state == SPAN_ABSENT)
		return PLAN_ABSENT;
	return s->state == SPAN_QUEUED && s->stage == STAGE_WAIT ? PLAN_WANTED : PLAN_LEAVE;
}

static void fill_job(struct flight *f, const struct layer *l, const struct layer_source *s,
		     const struct plan_run *p)
{
	const struct settings *set = &f->en->slots->settings;
	struct fetch_job *job = &f->job;
	char hex[DIGEST_HEX + 1];

	memset(job, 0, offsetof(struct fetch_job, from));
	job->op = FETCH_SPANS;
	job->id = ++f->last_id;
	job->source = s->at;
	/* It may have changed, or have been told again, since the layer was mounted. */
	if (!s->at.local)
		login_recall(f->en->slots, &job->source.at);
	snprintf(job->what, sizeof(job->what), "layer %s", digest_hex(&l->diff_id, hex));
	job->codec = blobmap_codec(s->map);
	job->span_size = l->index.span_size;
	job->first_span = p->first;
	job->nspans = p->n;
	job->tar_size = l->index.tar_size;
	job->in_start = p->in_start;
	job->in_end = p->in_end;
	job->stall_timeout_ms = set->stall_timeout_ms;
	job->connect_timeout_ms = set->connect_timeout_ms;
	job->anew = s->bad;
}

/* The spans belong to the run: those that wait, and the absent ones that it passes. */
static void mark_run(struct flight *f, struct layer *l, const struct plan_run *p)
{
	for (uint32_t i = p->first; i < p->first + p->n; i++) {
		struct span *s = &l->spans[i];

		if (s->state == SPAN_QUEUED && s->stage == STAGE_WAIT) {
			queue_drop(f, l, i);
		} else if (s->state == SPAN_ABSENT) {
			span_set(l, i, SPAN_QUEUED);
			s->prio = PRIO_FILL;
		} else {
			continue;
		}
		s->stage = STAGE_RUN;
	}
}

/* False: nothing was started, but something changed; look again. */
static bool run_start(struct flight *f, struct fetcher *fe, struct layer *l, uint32_t span,
		      uint32_t source)
{
	struct layer_source *s = &l->sources[source];
	enum prio prio = l->spans[span].prio;
	uint32_t max = prio == PRIO_DEMAND ? PLAN_RUN_DEMAND : PLAN_RUN_FILL;
	struct run run = {.layer = l, .host = host_of(f, s), .source = source, .prio = prio};
	struct view view = {l, source_bit(source)};
	struct plan_run p;

	/* A span over which fetchers die is asked for alone, so that it takes no others along. */
	plan_run(s->map, span, l->spans[span].deaths ? 1 : max, look, &view, &p);
	fill_job(f, l, s, &p);
	if (blobmap_checkpoint(s->map, p.point, &f->job.from) < 0) {
		source_bad(f, l, source, span, plan_point_end(s->map, span),
			   "its blob map is damaged");
		return false;
	}
	run.first = run.next = p.first;
	run.end = p.first + p.n;
	run.id = f->job.id;
	run.bytes = p.in_end - p.in_start;
	if (!pool_start(f, fe, &run, s->at.local ? s->fd : -1))
		return false;
	l->inflight++;
	mark_run(f, l, &p);
	return true;
}

/* The first span of @l's queue that can be asked for. What one source refused holds up no other. */
static int layer_next(struct flight *f, struct layer *l, enum prio prio, uint32_t *ret_span)
{
	int source = SOURCE_NONE;

	for (uint32_t at = l->queue[prio].head, past = 0; at && past < LOOK_PAST;) {
		const struct span *s = &l->spans[at - 1];

		*ret_span = at - 1;
		source = source_pick(f, l, at - 1);
		if (source >= 0 || (source == SOURCE_WAIT && !(s->refused | s->poison)))
			break;
		past += source == SOURCE_WAIT;
		at = s->next;
		if (source == SOURCE_NONE) {
			queue_drop(f, l, *ret_span);
			no_source(f, l, *ret_span, "no source can give it");
			at = l->queue[prio].head;
		}
	}
	return source;
}

/*
 * Layers take turns. False when no layer has anything that can be asked for now; without a
 * fetcher (NULL) all this does is to answer those whom no source can help, and to see that no host
 * is kept waiting by silent ones.
 */
static bool start_one(struct flight *f, struct fetcher *fe, enum prio prio)
{
	struct layer *l = f->ring[prio];

	for (uint32_t left = f->nring[prio]; left > 0; left--) {
		struct layer *after = l->queue[prio].next;
		uint32_t span;
		int source = layer_next(f, l, prio, &span);

		if (source >= 0 && fe) {
			f->ring[prio] = after;
			run_start(f, fe, l, span, (uint32_t)source);
			return true;
		}
		/* One at a time: the fetcher that follows it comes back to here. */
		if (source >= 0 && pool_reclaim(f, host_of(f, &l->sources[source])))
			return false;
		l = after;
	}
	return false;
}

/* The layer whose turn it is to have something of queue @q read back; NULL: none may be now. */
static struct layer *check_next(struct flight *f, unsigned q)
{
	uint64_t now = clock_ms();

	for (uint32_t left = f->nring[q]; left > 0; left--) {
		struct layer *l = f->ring[q];
		const struct span *s = &l->spans[l->queue[q].head - 1];

		f->ring[q] = l->queue[q].next;
		if (s->check_ms <= now)
			return l;
		flight_wake_at(f, s->check_ms);
	}
	return NULL;
}

static void start_checks(struct flight *f)
{
	for (unsigned prio = 0; prio < PRIO_COUNT; prio++) {
		unsigned q = PRIO_COUNT + prio;
		struct layer *l;

		while (f->checks < CHECKS_MAX && (l = check_next(f, q))) {
			uint32_t span = l->queue[q].head - 1;

			queue_drop(f, l, span);
			if (!span_work_check(f, l, span)) {
				queue_put(f, l, span, true);
				flight_wake_at(f, clock_ms() + EXPIRE_EVERY_MS);
				return;
			}
		}
	}
}

void flight_dispatch(struct flight *f)
{
	struct fetcher *fe;

	if (f->closing)
		return;
	start_checks(f);
	pool_watch(f);
	expire_waiting(f);
	for (enum prio prio = PRIO_DEMAND; prio < PRIO_COUNT && !f->no_room; prio++) {
		if (prio != PRIO_DEMAND && clock_ms() < f->full_until_ms) {
			flight_wake_at(f, f->full_until_ms);
			break;
		}
		do
			fe = pool_idle(f, prio);
		while ((fe || prio == PRIO_DEMAND) && start_one(f, fe, prio));
	}
	if (f->ring[PRIO_DEMAND])
		flight_wake_at(f, clock_ms() + EXPIRE_EVERY_MS);
}
