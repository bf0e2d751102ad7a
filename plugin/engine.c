/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/engine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/alone.h"
#include "plugin/ctl/proto.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "plugin/inherit.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/spawn.h"
#include "plugin/start.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/present.h"
#include "plugin/store/space.h"
#include "plugin/store/vanish.h"

#define TASK_STACK   (512u << 10)
#define STOP_POLL_MS 20

/* --- finding layers --- */

struct layer *engine_layer(struct engine *en, const struct digest *diff_id,
			   const struct digest *scope)
{
	for (struct layer *l = en->layers; l; l = l->next)
		if (digest_equal(&l->diff_id, diff_id) && digest_equal(&l->scope, scope))
			return l;
	return NULL;
}

/* --- tasks --- */

struct task {
	void (*fn)(void *ctx);
	void *ctx;
};

static void *run_task(void *arg)
{
	struct task t = *(struct task *)arg;

	free(arg);
	t.fn(t.ctx);
	return NULL;
}

int engine_task(void (*fn)(void *ctx), void *ctx)
{
	struct task *t = malloc(sizeof(*t));
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct task){.fn = fn, .ctx = ctx};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, TASK_STACK);
	r = -pthread_create(&thread, &attr, run_task, t);
	pthread_attr_destroy(&attr);
	if (r < 0)
		free(t);
	return r;
}

/* --- attachments --- */

static struct attachment **attachment_place(struct engine *en, const char *id)
{
	struct attachment **at = &en->attachments;

	while (*at && strcmp((*at)->id, id))
		at = &(*at)->next;
	return at;
}

int engine_attached(struct engine *en, const struct keep_attach *rq)
{
	static const struct digest shared;
	struct attachment *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	snprintf(a->id, sizeof(a->id), "%s", rq->id);
	a->image = rq->image;
	a->kind = rq->kind;
	a->pid = rq->pid;
	for (uint32_t i = 0; i < rq->nlayers && i < LIMIT_LAYERS; i++) {
		struct layer *l =
			engine_layer(en, &rq->layer[i], rq->proved[i] ? &shared : &rq->image);

		if (!l)
			continue; /* the keeper told of it and it could not be read: logged then */
		l->refs++;
		a->layer[a->nlayers++] = l;
	}
	a->next = en->attachments;
	en->attachments = a;
	return 0;
}

static void detached(struct engine *en, const char *id)
{
	struct attachment **at = attachment_place(en, id), *a = *at;

	inherit_detached(en->inherited, id);
	if (!a)
		return;
	*at = a->next;
	for (uint32_t i = 0; i < a->nlayers; i++)
		layer_release(en, a->layer[i]);
	free(a);
}

uint32_t engine_layer_mounts(const struct engine *en, const struct layer *l)
{
	uint32_t n = 0;

	for (const struct attachment *a = en->attachments; a; a = a->next)
		for (uint32_t i = 0; i < a->nlayers; i++)
			n += a->layer[i] == l;
	return n;
}

/* --- stopping: everything is written down, then the process ends --- */

static void stop_task(void *ctx)
{
	struct engine *en = ctx;
	struct keep_request rq = {.op = KEEP_STOPPED};
	struct err e = ERR_INIT;

	if (present_stop(en, &e) < 0)
		log_warn("stopping: %s; content will be checked again on the next start", e.text);
	keep_send(en->keep, &rq);
	_exit(EXIT_SUCCESS);
}

struct stop {
	struct engine *en; /* borrowed */
	uint32_t syncing;  /* layers whose last fdatasync has not ended */
};

static void synced(void *ctx, int result)
{
	struct stop *s = ctx;

	if (--s->syncing == 0 && engine_task(stop_task, s->en) < 0)
		_exit(EXIT_SUCCESS); /* the present files stay as they are: unproven */
}

static void stop_when_idle(void *ctx)
{
	struct stop *s = ctx;
	struct engine *en = s->en;

	if ((en->server && ctl_server_busy(en->server)) || space_busy(en->space)) {
		loop_after(en->loop, STOP_POLL_MS, stop_when_idle, s, NULL);
		return;
	}
	s->syncing = 1;
	for (struct layer *l = en->layers; l; l = l->next) {
		s->syncing++;
		flight_sync(en->flight, l, synced, s);
	}
	synced(s, 0);
}

static void begin_stop(struct engine *en)
{
	static struct stop stop;

	if (en->stopping)
		return;
	en->stopping = true;
	stop.en = en;
	if (en->server)
		ctl_server_stop(en->server);
	stop_when_idle(&stop);
}

/* --- the keeper's messages --- */

static void on_tell(void *ctx, const struct keep_reply *msg, int *fds)
{
	struct engine *en = ctx;
	int r = 0;

	switch (msg->op) {
	case KEEP_TELL_BEGIN:
	case KEEP_TELL_LAYER:
	case KEEP_TELL_ATTACHED:
	case KEEP_TELL_READY:
		r = inherit_told(en->inherited, msg, fds);
		break;
	case KEEP_TELL_FETCHER:
		r = flight_add_fetcher(en->flight, fds[0], fds[1], msg->fetcher.pid);
		fds[0] = fds[1] = -1;
		break;
	case KEEP_TELL_DETACHED:
		detached(en, msg->attach.id);
		break;
	case KEEP_TELL_STOP:
		begin_stop(en);
		break;
	default:
		break;
	}
	if (r < 0) {
		/* Half an engine is worse than none: the next one tries again. */
		start_failed(en->slots, "engine: a message of the keeper", r, NULL);
		_exit(EXIT_FAILURE);
	}
}

/* --- the keeper's socket --- */

static void on_keeper(void *ctx, uint32_t events)
{
	struct engine *en = ctx;
	int r = keep_pump(en->keep);

	/*
	 * Whether it was ever ready says nothing about what is mounted: it may have taken over.
	 * Where nothing is, being alone ends at once.
	 */
	if (r == -EPIPE) {
		alone_begin(en);
	} else if (r < 0) {
		start_failed(en->slots, "engine: the keeper's socket", r, NULL);
		_exit(EXIT_FAILURE);
	}
}

/* --- start --- */

static int engine_start(struct engine *en, int keep_sock)
{
	int r;

	r = loop_new(&en->loop);
	if (r == 0)
		r = keep_new(keep_sock, on_tell, en, &en->keep);
	if (r == 0)
		r = flight_new(en, &en->flight);
	if (r == 0)
		r = space_new(en, &en->space);
	if (r == 0)
		r = fault_new(en, &en->fault);
	if (r == 0)
		r = loop_add_io(en->loop, keep_sock, EPOLLIN, false, on_keeper, en, &en->io_keep);
	if (r == 0)
		r = vanish_start(en);
	return r < 0 ? r : inherit_start(en);
}

int engine_main(int keep_sock, struct slots *slots, const int group[2])
{
	static struct engine engine;
	struct engine *en = &engine;
	const int keep[] = {ENGINE_FD_KEEP, ENGINE_FD_CONTENT, ENGINE_FD_EXEC, ENGINE_FD_SOLO};
	int r;

	en->slots = slots;
	en->group[SLOT_CONTENT] = group[SLOT_CONTENT];
	en->group[SLOT_EXEC] = group[SLOT_EXEC];
	en->started_ns = clock_ns();
	en->restarts = atomic_load(&slots->engine_starts);
	/* Before any descriptor is opened here: see slots.h. */
	slots_settle(slots, en->group);
	slots_close_others(slots, keep, ARRAY_LEN(keep));
	r = engine_start(en, keep_sock);
	if (r == 0)
		r = loop_run(en->loop);
	start_failed(slots, "engine", r, NULL);
	return EXIT_FAILURE;
}
