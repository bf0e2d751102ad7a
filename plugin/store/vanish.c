/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/vanish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/sources.h"

#define LOOK_MS 30000 /* http.check may have changed that long ago */

/* One source of one layer, by value: the layer may go meanwhile. */
struct place_asked {
	struct digest diff_id, scope;
	uint32_t source;
	struct fetch_source at; /* wiped */
	char dir[LIMIT_PATH];
	bool asked;
	int code; /* what came of it */
	char text[256];
};

struct vanish {
	struct engine *en;     /* borrowed */
	struct place_asked *v; /* owned; the task's while it runs */
	size_t n;
	bool running;
	uint64_t last_ms; /* clock_ms() */
	uint32_t random;
};

static void schedule(struct vanish *c);

/* --- what is to be asked: loop --- */

static void note_layer(struct vanish *c, const struct layer *l)
{
	for (uint32_t i = 0; i < l->nsources; i++) {
		struct place_asked *p = &c->v[c->n++];

		*p = (struct place_asked){.diff_id = l->diff_id,
					  .scope = l->scope,
					  .source = i,
					  .at = l->sources[i].at};
		snprintf(p->dir, sizeof(p->dir), "%s", l->sources[i].dir);
		if (!p->at.local)
			login_recall(c->en->slots, &p->at.at);
	}
}

static int note_all(struct vanish *c)
{
	size_t n = 0;

	for (const struct layer *l = c->en->layers; l; l = l->next)
		n += l->nsources;
	c->n = 0;
	c->v = calloc(n ? n : 1, sizeof(*c->v));
	if (!c->v)
		return -ENOMEM;
	for (const struct layer *l = c->en->layers; l; l = l->next)
		if (!l->unmounting)
			note_layer(c, l);
	return 0;
}

/* --- asking: the task --- */

static bool is_gone(int code)
{
	return code == -ENOENT || code == -EACCES;
}

static int no_content(void *ctx, const struct fetch_note *n, const void *data, struct err *e)
{
	return err_set(e, -EPROTO, "content that nobody asked for");
}

static int ask_registry(struct vanish *c, struct oneshot *o, struct fetch_job *job,
			const struct place_asked *p, struct err *e)
{
	const struct settings *set = &c->en->slots->settings;
	char hex[DIGEST_HEX + 1];

	*job = (struct fetch_job){.op = FETCH_CHECK,
				  .source = p->at,
				  .stall_timeout_ms = set->stall_timeout_ms,
				  .connect_timeout_ms = set->connect_timeout_ms};
	snprintf(job->what, sizeof(job->what), "layer %s", digest_hex(&p->diff_id, hex));
	return oneshot_run(o, job, NULL, 0, no_content, NULL, NULL, e);
}

static int ask_layout(struct vanish *c, const struct place_asked *p, struct err *e)
{
	_cleanup_free_ struct keep_request *rq = calloc(1, sizeof(*rq));
	_cleanup_free_ struct keep_reply *rep = calloc(1, sizeof(*rep));
	_cleanup_fd_ int fd = -1;

	if (!rq || !rep)
		return err_errno(e, -ENOMEM, "%s", p->dir);
	rq->op = KEEP_LAYOUT_OPEN;
	rq->layout.which = KEEP_LAYOUT_BLOB;
	rq->layout.digest = p->at.blob;
	snprintf(rq->layout.dir, sizeof(rq->layout.dir), "%s", p->dir);
	return keep_call(c->en->keep, rq, rep, &fd, 1, e);
}

/* A host that does not answer is asked once, not for each of its blobs. */
static bool is_silent(const struct vanish *c, const struct place_asked *p)
{
	for (const struct place_asked *q = c->v; q < p; q++)
		if (q->asked && q->code < 0 && !is_gone(q->code) && !q->at.local && !p->at.local &&
		    strcmp(q->at.at.host, p->at.at.host) == 0)
			return true;
	return false;
}

static void ask_one(struct vanish *c, struct place_asked *p, struct oneshot **o,
		    struct fetch_job *job)
{
	struct err e = ERR_INIT;
	int r = 0;

	if (is_silent(c, p))
		return;
	if (!p->at.local && !*o)
		r = oneshot_new(c->en, o, &e);
	if (r < 0)
		return;
	p->asked = true;
	p->code = p->at.local ? ask_layout(c, p, &e) : ask_registry(c, *o, job, p, &e);
	snprintf(p->text, sizeof(p->text), "%.*s", (int)sizeof(p->text) - 1, e.text);
	/* Its fetcher has died or hangs: the next one gets another. */
	if (p->code == -EPIPE || p->code == -ETIMEDOUT)
		*o = oneshot_free(*o);
}

/* --- what was answered: loop --- */

/* The layer may have been unmounted meanwhile, and be mounted again from elsewhere. */
static bool is_source(const struct layer *l, const struct place_asked *p)
{
	const struct layer_source *s = &l->sources[p->source];

	return p->source < l->nsources && p->at.local == s->at.local &&
	       digest_equal(&p->at.blob, &s->at.blob) && strcmp(p->dir, s->dir) == 0 &&
	       strcmp(p->at.at.host, s->at.at.host) == 0 &&
	       strcmp(p->at.at.repo, s->at.at.repo) == 0;
}

static int tell_all(void *ctx)
{
	struct vanish *c = ctx;

	for (size_t i = 0; i < c->n; i++) {
		struct place_asked *p = &c->v[i];
		struct layer *l = engine_layer(c->en, &p->diff_id, &p->scope);

		if (p->asked && l && is_source(l, p) && (p->code >= 0 || is_gone(p->code)))
			flight_source_gone(l, p->source, p->code < 0 ? p->code : 0, p->text);
	}
	explicit_bzero(c->v, c->n * sizeof(*c->v));
	free(c->v);
	c->v = NULL;
	c->running = false;
	c->last_ms = clock_ms();
	return 0;
}

static void ask_all(void *ctx)
{
	struct vanish *c = ctx;
	_cleanup_(oneshot_freep) struct oneshot *o = NULL;
	_cleanup_free_ struct fetch_job *job = calloc(1, sizeof(*job));

	for (size_t i = 0; job && i < c->n; i++)
		ask_one(c, &c->v[i], &o, job);
	if (job)
		explicit_bzero(job, sizeof(*job));
	loop_call(c->en->loop, tell_all, c);
}

/* --- when --- */

/* Between half of http.check and one and a half of it. */
static bool is_due(struct vanish *c)
{
	uint64_t every = c->en->slots->settings.check_ms;

	return every > 0 && clock_ms() - c->last_ms >= every / 2 + c->random % (every + 1);
}

static void look(void *ctx)
{
	struct vanish *c = ctx;

	if (c->en->ready && !c->en->stopping && !c->running && is_due(c) && note_all(c) == 0) {
		c->running = true;
		c->random = c->random * 1664525u + 1013904223u;
		if (engine_task(ask_all, c) < 0)
			tell_all(c);
	}
	schedule(c);
}

static void schedule(struct vanish *c)
{
	uint64_t every = c->en->slots->settings.check_ms;

	/* Without memory for a timer nobody is asked any more, which harms no reader. */
	loop_after(c->en->loop, every > 0 && every < LOOK_MS ? every : LOOK_MS, look, c, NULL);
}

int vanish_start(struct engine *en)
{
	struct vanish *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->en = en;
	c->last_ms = clock_ms();
	c->random = (uint32_t)(clock_ns() >> 10);
	schedule(c);
	return 0;
}
