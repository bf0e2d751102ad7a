/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/proc.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/loop.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/space.h"

#define FETCHERS_MAX 320 /* more than the pool can have */

/* --- the daemon --- */

/* What the loop knows, by value. */
struct daemon {
	struct engine *en;
	struct engine_counters count;
	uint64_t p50, p99, max, started_ns;
	struct space_state space;
	uint32_t restarts, nfetchers;
	int32_t fetchers[FETCHERS_MAX];
};

static int look_at_daemon(void *ctx)
{
	struct daemon *d = ctx;

	d->count = d->en->count;
	d->started_ns = d->en->started_ns;
	d->restarts = d->en->restarts;
	d->space = space_state(d->en->space);
	d->nfetchers = flight_fetchers(d->en->flight, d->fetchers, FETCHERS_MAX);
	flight_latency(d->en->flight, &d->p50, &d->p99, &d->max);
	return 0;
}

static void put_counts(struct json_gen *g, const struct daemon *d)
{
	json_open_map(g, "events");
	json_put_int(g, "pre_access", (int64_t)d->count.pre_access);
	json_put_int(g, "open_exec", (int64_t)d->count.open_exec);
	json_put_int(g, "denied_busy", (int64_t)d->count.denied_busy);
	json_put_int(g, "hits", (int64_t)d->count.hits);
	json_put_int(g, "misses", (int64_t)d->count.misses);
	json_put_int(g, "failed", (int64_t)d->count.failed);
	json_close_map(g);
	json_open_map(g, "bytes");
	json_put_int(g, "fetched", (int64_t)d->count.fetched);
	json_put_int(g, "filled", (int64_t)d->count.filled);
	json_put_int(g, "evicted", (int64_t)d->count.evicted);
	json_close_map(g);
	json_open_map(g, "fill_latency_us");
	json_put_int(g, "p50", (int64_t)d->p50);
	json_put_int(g, "p99", (int64_t)d->p99);
	json_put_int(g, "max", (int64_t)d->max);
	json_close_map(g);
}

/* Without guardian and keeper only what is mounted is served: engine.c, alone(). */
static bool is_supervised(struct slots *s)
{
	return atomic_load(&s->guardian_pid) || atomic_load(&s->keeper_pid);
}

static void put_space(struct json_gen *g, const struct space_state *s)
{
	json_open_map(g, "cache");
	json_put_int(g, "used", (int64_t)s->used);
	json_put_int(g, "max", (int64_t)s->max);
	json_put_int(g, "low", (int64_t)s->low);
	json_put_str(g, "full", s->full ? strerrorname_np(-s->full) : NULL);
	json_close_map(g);
}

static void put_process(struct json_gen *g, const char *role, int32_t pid)
{
	uint64_t fds, rss;

	if (!pid || proc_usage(pid, &fds, &rss) < 0)
		return;
	json_open_map(g, NULL);
	json_put_str(g, "role", role);
	json_put_int(g, "pid", pid);
	json_put_int(g, "fds", (int64_t)fds);
	json_put_int(g, "rss", (int64_t)rss);
	json_close_map(g);
}

/* What a leak would show in. */
static void put_usage(struct json_gen *g, const struct daemon *d, struct slots *s)
{
	json_put_int(g, "slots", slots_waiting(s));
	json_put_int(g, "mounts", atomic_load(&s->nmounted));
	json_open_array(g, "processes");
	put_process(g, "guardian", atomic_load(&s->guardian_pid));
	put_process(g, "keeper", atomic_load(&s->keeper_pid));
	put_process(g, "anchor", atomic_load(&s->anchor_pid));
	put_process(g, "engine", atomic_load(&s->engine_pid));
	for (uint32_t i = 0; i < d->nfetchers; i++)
		put_process(g, "fetcher", d->fetchers[i]);
	json_close_array(g);
}

static void put_daemon(struct json_gen *g, const struct daemon *d, struct slots *s)
{
	int32_t guardian = atomic_load(&s->guardian_pid);
	uint64_t uptime;

	/* The engine may have been replaced; the guardian is there from the start. */
	if (proc_age_s(guardian, &uptime) < 0)
		uptime = (clock_ns() - d->started_ns) / 1000000000u;
	json_open_map(g, "daemon");
	json_put_str(g, "version", TARN_VERSION);
	json_put_bool(g, "supervised", is_supervised(s));
	json_put_int(g, "guardian_pid", guardian);
	json_put_int(g, "keeper_pid", atomic_load(&s->keeper_pid));
	json_put_int(g, "anchor_pid", atomic_load(&s->anchor_pid));
	json_put_int(g, "engine_pid", atomic_load(&s->engine_pid));
	json_open_array(g, "fetcher_pids");
	for (uint32_t i = 0; i < d->nfetchers; i++)
		json_put_int(g, NULL, d->fetchers[i]);
	json_close_array(g);
	json_put_int(g, "uptime_s", (int64_t)uptime);
	json_put_int(g, "engine_restarts", d->restarts);
	put_counts(g, d);
	put_space(g, &d->space);
	put_usage(g, d, s);
	json_close_map(g);
}

/* --- containers --- */

struct containers {
	struct engine *en;
	struct attachment *v; /* owned; copies, of which the layers are not looked at */
	size_t n;
};

static int copy_containers(void *ctx)
{
	struct containers *c = ctx;

	for (const struct attachment *a = c->en->attachments; a; a = a->next)
		c->n++;
	c->v = calloc(c->n ? c->n : 1, sizeof(*c->v));
	if (!c->v)
		return -ENOMEM;
	c->n = 0;
	for (const struct attachment *a = c->en->attachments; a; a = a->next)
		c->v[c->n++] = *a;
	return 0;
}

static int send_container(struct ctl_task *t, const struct attachment *a)
{
	_cleanup_json_text_ struct json_text row;
	char text[DIGEST_TEXT];

	ctl_row_open(&row);
	json_open_map(row.g, "container");
	json_put_str(row.g, "id", a->id);
	json_put_str(row.g, "image", digest_text(&a->image, text));
	json_put_int(row.g, "pid", a->pid);
	json_put_str(row.g, "attach", attach_kind_name(a->kind));
	json_close_map(row.g);
	return ctl_row_send(t, &row);
}

static int send_containers(struct ctl_task *t)
{
	struct containers c = {.en = t->en};
	_cleanup_free_ struct attachment *owned = NULL;
	int r = loop_call(t->en->loop, copy_containers, &c);

	owned = c.v;
	for (size_t i = 0; r == 0 && i < c.n; i++)
		r = send_container(t, &c.v[i]);
	return r;
}

/* --- who waits for what --- */

struct waiter {
	int32_t pid;
	uint32_t group;
	uint64_t off, count, since_ns;
	uint32_t waited_ms, span;
	bool known; /* the layer is */
	bool told;  /* span and why are */
	struct digest diff_id;
	char source[LIMIT_NAME]; /* the first that is asked */
	char why[FLIGHT_WHY];
};

struct waiters {
	struct engine *en;
	struct waiter *v; /* owned */
	size_t n;
};

static void first_source(const struct layer *l, char out[LIMIT_NAME])
{
	out[0] = '\0';
	for (uint32_t i = 0; i < l->nsources; i++) {
		const struct layer_source *s = &l->sources[i];

		if (s->bad)
			continue;
		if (s->at.local)
			snprintf(out, LIMIT_NAME, "oci:%.200s", s->dir);
		else
			snprintf(out, LIMIT_NAME, "%.120s/%.120s", s->at.at.host, s->at.at.repo);
		return;
	}
}

static void copy_waiter(struct engine *en, uint32_t i, struct waiter *w)
{
	const struct slot *s = &en->slots->s[i];
	const struct layer *l = s->group == SLOT_CONTENT ? engine_layer_by_tar(en, s->dev, s->ino)
							 : engine_layer_by_fs(en, s->dev);

	*w = (struct waiter){.pid = s->pid,
			     .group = s->group,
			     .off = s->off,
			     .count = s->count,
			     .since_ns = s->since_ns,
			     .known = l != NULL,
			     .waited_ms = atomic_load(&s->waited_ms)};
	if (l) {
		w->diff_id = l->diff_id;
		first_source(l, w->source);
	}
	w->told = fault_why(en, i, &w->span, w->why, sizeof(w->why));
}

static int copy_waiters(void *ctx)
{
	struct waiters *c = ctx;
	struct slots *t = c->en->slots;

	for (uint32_t i = 0; i < t->count; i++)
		c->n += atomic_load(&t->s[i].state) == SLOT_WAITING;
	c->v = calloc(c->n ? c->n : 1, sizeof(*c->v));
	if (!c->v)
		return -ENOMEM;
	c->n = 0;
	/* Only this thread makes slots wait: there can not be more of them now. */
	for (uint32_t i = 0; i < t->count; i++)
		if (atomic_load(&t->s[i].state) == SLOT_WAITING)
			copy_waiter(c->en, i, &c->v[c->n++]);
	return 0;
}

static int send_waiter(struct ctl_task *t, const struct waiter *w)
{
	char text[DIGEST_TEXT], comm[PROC_COMM], container[PROC_CONTAINER];
	_cleanup_json_text_ struct json_text row;

	proc_comm(w->pid, comm);
	proc_container(w->pid, container);
	ctl_row_open(&row);
	json_open_map(row.g, "waiting");
	json_put_int(row.g, "pid", w->pid);
	json_put_str(row.g, "comm", comm[0] ? comm : NULL);
	json_put_str(row.g, "container", container[0] ? container : NULL);
	json_put_str(row.g, "layer", w->known ? digest_text(&w->diff_id, text) : NULL);
	json_put_str(row.g, "what", w->group == SLOT_CONTENT ? "read" : "open");
	json_put_int(row.g, "offset", (int64_t)w->off);
	json_put_int(row.g, "count", (int64_t)w->count);
	json_put_int(row.g, "since_ms", (int64_t)((clock_ns() - w->since_ns) / 1000000));
	json_put_int(row.g, "deadline_used_ms", w->waited_ms);
	json_put_str(row.g, "source", w->source[0] ? w->source : NULL);
	if (w->told)
		json_put_int(row.g, "span", w->span);
	json_put_str(row.g, "why", w->told ? w->why : NULL);
	json_close_map(row.g);
	return ctl_row_send(t, &row);
}

static int send_waiters(struct ctl_task *t)
{
	struct waiters c = {.en = t->en};
	_cleanup_free_ struct waiter *owned = NULL;
	int r = loop_call(t->en->loop, copy_waiters, &c);

	owned = c.v;
	for (size_t i = 0; r == 0 && i < c.n; i++)
		r = send_waiter(t, &c.v[i]);
	return r;
}

/* --- layers that were in use when all of tarnd was killed --- */

/* A line of the keeper's list: "<seconds since 1970> <diff_id>". */
static int send_lost_one(struct ctl_task *t, const char *line)
{
	_cleanup_json_text_ struct json_text row;
	char layer[DIGEST_TEXT], *end;
	int64_t at = strtoll(line, &end, 10);

	if (*end != ' ' || strnlen(end + 1, DIGEST_TEXT) < DIGEST_TEXT - 1)
		return 0; /* cut short: the disk was full */
	snprintf(layer, sizeof(layer), "%s", end + 1);
	ctl_row_open(&row);
	json_open_map(row.g, "lost");
	json_put_str(row.g, "layer", layer);
	json_put_int(row.g, "found", at);
	json_close_map(row.g);
	return ctl_row_send(t, &row);
}

static int send_lost(struct ctl_task *t, bool acknowledge, struct err *e)
{
	const struct keep_file f = file_of(KEEP_LOST, NULL);
	_cleanup_buf_ struct buf text = {0};
	struct err why = ERR_INIT;
	int r;

	buf_init(&text, LIMIT_LOST);
	r = file_read(t->en, &f, &text, &why);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_take(e, r, why.text, &why.links);
	for (const char *at = buf_cstr(&text), *end; r == 0 && at && *at; at = end) {
		end = strchrnul(at, '\n');
		end += *end != '\0';
		r = send_lost_one(t, at);
	}
	return r == 0 && acknowledge ? file_drop(t->en, &f, e) : r;
}

/* What only the keeper can tell. */
static int send_kept(struct ctl_task *t, struct err *e)
{
	bool acknowledge = json_bool(json_get(t->args, "acknowledge"), false);

	if (is_supervised(t->en->slots))
		return send_lost(t, acknowledge, e);
	return acknowledge ? err_set(e, -EPIPE, "status: there is no keeper") : 0;
}

int verb_status(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	_cleanup_places_ struct places ps = {.v = NULL};
	struct daemon d = {.en = t->en};
	int r = 0;

	/* The records of layers are the keeper's to open. */
	if (is_supervised(t->en->slots))
		r = places_all(t->en, &ps, e);
	if (r == 0)
		r = places_send(t, &ps, "layer", e);
	if (r < 0)
		return r;
	r = send_containers(t);
	if (r == 0)
		r = send_kept(t, e);
	if (r == 0 && json_bool(json_get(t->args, "waiting"), false))
		r = send_waiters(t);
	if (r < 0)
		return e->code ? r : err_errno(e, r, "status");
	loop_call(t->en->loop, look_at_daemon, &d);
	put_daemon(done, &d, t->en->slots);
	return 0;
}
