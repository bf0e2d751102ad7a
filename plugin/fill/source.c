/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/loop.h"

/* A registry that asks for more patience than a reader has is asked again all the same. */
#define RETRY_AFTER_MAX_S 10u

const char *source_name(const struct layer_source *s, char *out, size_t size)
{
	if (s->at.local)
		snprintf(out, size, "%s", s->dir);
	else
		snprintf(out, size, "%s/%s", s->at.at.host, s->at.at.repo);
	return out;
}

/* xorshift32: only to keep hosts out of step. */
static uint32_t jitter(struct flight *f)
{
	uint32_t x = f->seed ? f->seed : 1;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return f->seed = x;
}

static void leave_alone(struct flight *f, struct layer_source *s, uint32_t retry_after_s)
{
	uint64_t ms = plan_backoff_ms(++s->fails, jitter(f));

	if (retry_after_s > RETRY_AFTER_MAX_S)
		retry_after_s = RETRY_AFTER_MAX_S;
	if (ms < retry_after_s * 1000u)
		ms = retry_after_s * 1000u;
	s->not_before_ms = clock_ms() + ms;
}

void source_failed(struct flight *f, struct layer *l, uint32_t source, const char *text,
		   uint32_t retry_after_s)
{
	struct layer_source *s = &l->sources[source];
	char where[LIMIT_PATH], name[LAYER_NAME];

	snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	leave_alone(f, s, retry_after_s);
	/* One line when trouble begins; a span given up ends with another. */
	if (s->fails == 1)
		log_warn("%s: %s: %s", layer_name(l, name), source_name(s, where, sizeof(where)),
			 text);
}

void source_bad(struct flight *f, struct layer *l, uint32_t source, uint32_t span, const char *text)
{
	struct layer_source *s = &l->sources[source];
	char where[LIMIT_PATH], name[LAYER_NAME];

	snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	if (!s->bad)
		log_error("%s span %" PRIu32 ": %s: %s; it is not asked again", layer_name(l, name),
			  span, source_name(s, where, sizeof(where)), text);
	s->bad = true;
}

void source_good(struct layer *l, uint32_t source)
{
	struct layer_source *s = &l->sources[source];
	char where[LIMIT_PATH], name[LAYER_NAME];

	if (s->fails > 1)
		log_info("%s: %s answers again after %" PRIu32 " failures", layer_name(l, name),
			 source_name(s, where, sizeof(where)), s->fails);
	s->fails = 0;
	s->not_before_ms = 0;
}

/* --- the blob of a local layout: the keeper opens it, once --- */

struct open_work {
	struct work w;
	struct flight *f; /* borrowed */
	struct layer *l;  /* borrowed, counted */
	uint32_t source;
	struct keep *keep; /* borrowed */
	struct keep_request req;
	int result;
	int fd; /* owned */
	struct err e;
};

static void open_run(struct work *w, void *scratch)
{
	struct open_work *o = (struct open_work *)w;
	struct keep_reply *rep = calloc(1, sizeof(*rep));

	o->result = rep ? keep_call(o->keep, &o->req, rep, &o->fd, 1, &o->e) : -ENOMEM;
	if (o->result >= 0 && o->fd < 0)
		o->result = err_set(&o->e, -EPROTO, "the keeper sent no descriptor");
	free(rep);
}

/* It is not there: whoever waits now is served by another source or not at all. */
static void refuse_waiting(struct layer *l, uint32_t source)
{
	for (uint32_t i = 0; i < l->index.nspans; i++)
		if (l->spans[i].state == SPAN_QUEUED && l->spans[i].stage == STAGE_WAIT)
			l->spans[i].refused |= source_bit(source);
}

static void open_done(struct work *w)
{
	struct open_work *o = (struct open_work *)w;
	struct layer_source *s = &o->l->sources[o->source];

	s->opening = false;
	if (o->result >= 0) {
		s->fd = take_fd(&o->fd);
		s->opened = true;
	} else if (!o->f->closing) {
		source_failed(o->f, o->l, o->source, o->e.code ? o->e.text : err_words(o->result),
			      0);
		if (o->result == -ENOENT || o->result == -EACCES)
			refuse_waiting(o->l, o->source);
	}
	flight_let_go(o->f, o->l);
	flight_kick(o->f);
	cleanup_closep(&o->fd);
	free(o);
}

static void open_start(struct flight *f, struct layer *l, uint32_t source)
{
	struct layer_source *s = &l->sources[source];
	struct open_work *o = calloc(1, sizeof(*o));

	if (!o) {
		source_failed(f, l, source, "out of memory", 0);
		return;
	}
	o->w = (struct work){.run = open_run, .done = open_done};
	o->f = f;
	o->l = l;
	o->source = source;
	o->keep = f->en->keep;
	o->fd = -1;
	o->req.op = KEEP_LAYOUT_OPEN;
	o->req.layout.which = KEEP_LAYOUT_BLOB;
	o->req.layout.digest = s->at.blob;
	snprintf(o->req.layout.dir, sizeof(o->req.layout.dir), "%s", s->dir);
	s->opening = true;
	l->inflight++;
	workers_submit(f->workers, &o->w, WORK_KEEPER);
}

/*
 * Is a host in trouble being asked already? One request at a time finds out whether it is well
 * again; more would only keep the fetchers from layers that other hosts have.
 */
static bool being_tried(const struct flight *f, const struct layer_source *s)
{
	for (const struct fetcher *fe = f->fetchers; fe && !s->at.local; fe = fe->next) {
		const struct run *run = &fe->run;
		const struct layer_source *other;

		if (!run->layer)
			continue;
		other = &run->layer->sources[run->source];
		if (other->fails > 0 && !other->at.local &&
		    strcmp(other->at.at.host, s->at.at.host) == 0)
			return true;
	}
	return false;
}

/* The local one first, also while it is being opened: that takes no longer than a request. */
int source_pick(struct flight *f, struct layer *l, uint32_t span)
{
	uint32_t no = l->spans[span].refused | l->spans[span].poison;
	uint64_t now = clock_ms(), soon = UINT64_MAX;

	for (uint32_t i = 0; i < l->nsources; i++) {
		struct layer_source *s = &l->sources[i];

		if (s->bad || no & source_bit(i))
			continue;
		if (s->not_before_ms > now) {
			if (s->not_before_ms < soon)
				soon = s->not_before_ms;
			continue;
		}
		if (!s->at.local || s->opened)
			return being_tried(f, s) ? SOURCE_WAIT : (int)i;
		if (!s->opening)
			open_start(f, l, i);
		return SOURCE_WAIT;
	}
	if (soon == UINT64_MAX)
		return SOURCE_NONE;
	flight_wake_at(f, soon);
	return SOURCE_WAIT;
}
