/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/inherit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/ctl/proto.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/start.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"

struct inherited {
	struct engine *en; /* borrowed */
	bool ours;     /* what is being told answers our HELLO, not one of an engine before us */
	bool complete; /* all of it was told: the task has it */
	size_t nlayers, nattached;
	struct {
		struct keep_reply msg;
		int fds[2];           /* owned until layer_adopt() */
	} * layers;                   /* owned */
	struct keep_attach *attached; /* owned */
	int listen_fd;                /* owned */
};

/* --- what is told --- */

/* Descriptors of what was told and not adopted. */
static void clear(struct inherited *in)
{
	for (size_t i = 0; i < in->nlayers; i++) {
		cleanup_closep(&in->layers[i].fds[0]);
		cleanup_closep(&in->layers[i].fds[1]);
	}
	in->nlayers = in->nattached = 0;
}

/*
 * What the keeper told an engine that died meanwhile is still in the socket, and a keeper that died
 * half-way through telling leaves the next one to begin again.
 */
static void begin(struct inherited *in, int32_t pid)
{
	clear(in);
	in->ours = pid == getpid();
}

static int add_layer(struct inherited *in, const struct keep_reply *msg, int *fds)
{
	void *grown = reallocarray(in->layers, in->nlayers + 1, sizeof(*in->layers));

	if (!grown)
		return -ENOMEM;
	in->layers = grown;
	in->layers[in->nlayers].msg = *msg;
	in->layers[in->nlayers].fds[0] = take_fd(&fds[0]);
	in->layers[in->nlayers].fds[1] = take_fd(&fds[1]);
	in->nlayers++;
	return 0;
}

static int add_attached(struct inherited *in, const struct keep_reply *msg)
{
	void *grown = reallocarray(in->attached, in->nattached + 1, sizeof(*in->attached));
	struct keep_attach *a;

	if (!grown)
		return -ENOMEM;
	in->attached = grown;
	a = &in->attached[in->nattached++];
	memset(a, 0, sizeof(*a));
	snprintf(a->id, sizeof(a->id), "%s", msg->attach.id);
	a->image = msg->attach.image;
	a->kind = msg->attach.kind;
	a->pid = msg->attach.pid;
	a->nlayers = msg->attach.nlayers;
	memcpy(a->layer, msg->attach.layer, sizeof(a->layer));
	memcpy(a->proved, msg->attach.proved, sizeof(a->proved));
	return 0;
}

/* --- what is made of it --- */

/* On the loop: everything is known; from here on the engine can be asked. */
static int all_adopted(void *ctx)
{
	struct inherited *in = ctx;
	struct engine *en = in->en;
	int r = 0;

	for (size_t i = 0; i < in->nattached && r == 0; i++)
		if (in->attached[i].nlayers > 0)
			r = engine_attached(en, &in->attached[i]);
	if (r < 0)
		return r;
	en->inherited = NULL;
	en->ready = true;
	fault_all_known(en);
	r = ctl_server_new(en, take_fd(&in->listen_fd), &en->server);
	if (r < 0)
		return r;
	/* A layer nobody was attached to when its engine died. */
	for (struct layer *l = en->layers; l; l = l->next)
		if (l->refs == 0)
			layer_reap(en, &l->diff_id, &l->scope);
	atomic_store(&en->slots->ready, 1);
	return 0;
}

static void adopt(void *ctx)
{
	struct inherited *in = ctx;
	int r;

	for (size_t i = 0; i < in->nlayers; i++) {
		struct err e = ERR_INIT;

		if (layer_adopt(in->en, &in->layers[i].msg, in->layers[i].fds, &e) < 0)
			log_error("a mounted layer cannot be served: %s", e.text);
	}
	r = loop_call(in->en->loop, all_adopted, in);
	if (r < 0) {
		start_failed(in->en->slots, "engine: coming up", r, NULL);
		_exit(EXIT_FAILURE);
	}
	free(in->layers);
	free(in->attached);
	free(in);
}

int inherit_told(struct inherited *in, const struct keep_reply *msg, int *fds)
{
	if (!in || in->complete)
		return 0;
	if (msg->op == KEEP_TELL_BEGIN)
		begin(in, msg->engine.pid);
	if (!in->ours)
		return 0;
	switch (msg->op) {
	case KEEP_TELL_LAYER:
		return add_layer(in, msg, fds);
	case KEEP_TELL_ATTACHED:
		return add_attached(in, msg);
	case KEEP_TELL_READY:
		in->complete = true;
		in->listen_fd = take_fd(&fds[0]);
		return engine_task(adopt, in);
	default:
		return 0;
	}
}

void inherit_detached(struct inherited *in, const char *id)
{
	for (size_t i = 0; in && i < in->nattached; i++)
		if (!strcmp(in->attached[i].id, id))
			in->attached[i].nlayers = 0;
}

/* --- start --- */

/* In a task, for the socket may be full of what an engine before us asked. */
static void say_hello(void *ctx)
{
	struct engine *en = ctx;
	struct keep_request hello = {.op = KEEP_HELLO, .engine = {.pid = getpid()}};
	struct keep_reply rep;
	struct err e = ERR_INIT;

	/* The loop sees by itself that there is no keeper any more. */
	if (keep_call(en->keep, &hello, &rep, NULL, 0, &e) < 0 && e.code != -EPIPE) {
		start_failed(en->slots, "engine: coming up", e.code, &e);
		_exit(EXIT_FAILURE);
	}
}

int inherit_start(struct engine *en)
{
	struct inherited *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
	in->en = en;
	in->listen_fd = -1;
	en->inherited = in;
	return engine_task(say_hello, en);
}
