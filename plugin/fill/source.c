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

const char *source_name(const struct layer_source *s, char *out, size_t size)
{
	if (s->at.local)
		snprintf(out, size, "%s", s->dir);
	else
		snprintf(out, size, "%s/%s", s->at.at.host, s->at.at.repo);
	return out;
}

void source_failed(struct flight *f, struct layer *l, uint32_t source, const char *text,
		   uint32_t retry_after_s, bool trouble)
{
	struct layer_source *s = &l->sources[source];
	struct host *h = trouble ? host_of(f, s) : NULL;
	char where[LIMIT_PATH], name[LAYER_NAME];

	snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	s->not_before_ms = clock_ms() + plan_backoff_ms(++s->fails, flight_random(f));
	if (h)
		host_failed(f, h, retry_after_s);
	/* One line when trouble begins; a span given up ends with another. */
	if (s->fails == 1)
		log_warn("%s: %s: %s", layer_name(l, name), source_name(s, where, sizeof(where)),
			 text);
}

void source_denied(struct flight *f, struct layer *l, uint32_t source)
{
	struct layer_source *s = &l->sources[source];

	s->not_before_ms = clock_ms() + plan_wrong_ms(s->fails, flight_random(f),
						      f->en->slots->settings.deadline_ms);
}

void source_bad(struct flight *f, struct layer *l, uint32_t source, uint32_t span, uint32_t end,
		const char *text)
{
	uint32_t deadline_ms = f->en->slots->settings.deadline_ms;
	struct layer_source *s = &l->sources[source];
	uint64_t ms = plan_wrong_ms(++s->wrong, flight_random(f), deadline_ms);
	bool at_once = s->at.local && deadline_ms != DEADLINE_NEVER;
	char where[LIMIT_PATH], name[LAYER_NAME];

	snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	/* A file gives the same bytes again. Before a registry there may have been somebody else.
	 */
	for (uint32_t i = span; i < end && at_once; i++)
		if (l->spans[i].state == SPAN_QUEUED)
			l->spans[i].refused |= source_bit(source);
	if (!at_once)
		s->not_before_ms = clock_ms() + ms;
	if (!s->bad)
		log_error("%s span %" PRIu32 ": %s: %s; it is asked again where no other helps%s",
			  layer_name(l, name), span, source_name(s, where, sizeof(where)), text,
			  at_once ? "" : ", and seldom");
	s->bad = true;
}

void source_good(struct flight *f, struct layer *l, uint32_t source)
{
	struct layer_source *s = &l->sources[source];
	struct host *h = host_of(f, s);
	char where[LIMIT_PATH], name[LAYER_NAME];

	if (s->fails > 1 || s->bad)
		log_info("%s: %s is well again after %" PRIu32 " failures", layer_name(l, name),
			 source_name(s, where, sizeof(where)), s->fails + s->wrong);
	if (h) {
		h->fails = 0;
		h->not_before_ms = 0;
	}
	s->bad = false;
	s->wrong = 0;
	s->fails = 0;
	s->not_before_ms = 0;
	flight_source_gone(l, source, 0, NULL);
}

/* --- blobs that have vanished --- */

void flight_vanished_words(const struct layer *l, char *out, size_t size)
{
	uint32_t missing = l->index.nspans - l->nclean - l->ndirty;
	char where[LIMIT_PATH];

	snprintf(out, size,
		 "its blob has gone from where it came from (%.200s: %.200s); %s, %" PRIu32
		 " of %" PRIu32 " spans, cannot be had: push it again, or pull it from elsewhere",
		 source_name(&l->sources[0], where, sizeof(where)), l->sources[0].last_error,
		 missing ? "what is not here" : "what is evicted", missing, l->index.nspans);
}

void flight_source_gone(struct layer *l, uint32_t source, int code, const char *text)
{
	struct layer_source *s = &l->sources[source];
	char name[LAYER_NAME], words[FLIGHT_WHY];
	bool vanished = true;

	s->gone = code;
	if (code < 0 && text != s->last_error)
		snprintf(s->last_error, sizeof(s->last_error), "%s", text);
	for (uint32_t i = 0; i < l->nsources; i++)
		vanished = vanished && l->sources[i].gone < 0;
	if (vanished == l->vanished)
		return;
	l->vanished = vanished;
	flight_vanished_words(l, words, sizeof(words));
	if (vanished)
		log_warn("%s: %s", layer_name(l, name), words);
	else
		log_info("%s: its blob can be had again", layer_name(l, name));
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
static void refuse_waiting(struct flight *f, struct layer *l, uint32_t source)
{
	if (f->en->slots->settings.deadline_ms == DEADLINE_NEVER)
		return;
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
			      0, false);
		if (o->result == -ENOENT || o->result == -EACCES) {
			flight_source_gone(o->l, o->source, o->result, s->last_error);
			refuse_waiting(o->f, o->l, o->source);
		}
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
		source_failed(f, l, source, "out of memory", 0, false);
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
 * Has its host got as many fetchers as it may, or is it being tried already? What has failed is
 * asked by one request at a time; more would only keep the fetchers from layers that others have.
 */
static bool is_busy(struct flight *f, const struct layer *l, uint32_t source)
{
	const struct layer_source *s = &l->sources[source];
	const struct host *h = host_of(f, s);

	if (!h)
		return false;
	for (const struct fetcher *fe = f->fetchers; fe && (s->fails || s->bad); fe = fe->next)
		if (fe->run.layer == l && fe->run.source == source)
			return true;
	return host_running(f, h) >= plan_host_cap(f->nfetchers, h->fails);
}

static uint64_t ready_at(struct flight *f, const struct layer_source *s)
{
	const struct host *h = host_of(f, s);

	return h && h->not_before_ms > s->not_before_ms ? h->not_before_ms : s->not_before_ms;
}

/* The first source of those that gave wrong bytes (@bad), or of the others; *soon: when to look. */
static int pick_of(struct flight *f, struct layer *l, uint32_t no, bool bad, uint64_t *soon)
{
	int r = SOURCE_NONE;

	for (uint32_t i = 0; i < l->nsources; i++) {
		struct layer_source *s = &l->sources[i];
		uint64_t at = ready_at(f, s);

		if (s->bad != bad || no & source_bit(i))
			continue;
		if (at > clock_ms()) {
			r = r == SOURCE_NONE ? SOURCE_LATER : r;
			*soon = at < *soon ? at : *soon;
		} else if (s->at.local && !s->opened) {
			/* That takes no longer than a request elsewhere. */
			if (!s->opening)
				open_start(f, l, i);
			return SOURCE_WAIT;
		} else if (!is_busy(f, l, i)) {
			return (int)i;
		} else {
			r = SOURCE_WAIT;
		}
	}
	return r;
}

int source_pick(struct flight *f, struct layer *l, uint32_t span)
{
	uint32_t no = l->spans[span].refused | l->spans[span].poison;
	uint64_t soon = UINT64_MAX;
	int good = pick_of(f, l, no, false, &soon), bad;

	if (good >= 0 || good == SOURCE_WAIT)
		return good;
	/* Law 5 keeps what they give from readers; a second time it may be right. */
	bad = pick_of(f, l, no, true, &soon);
	if (bad >= 0)
		return bad;
	if (soon != UINT64_MAX)
		flight_wake_at(f, soon);
	return good == SOURCE_NONE && bad == SOURCE_NONE ? SOURCE_NONE : SOURCE_WAIT;
}
