/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/adopt.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"

/* Reading an index of some hundred MiB is work for one CPU; readers wait for all of them. */
#define ADOPT_THREADS 4

struct item {
	struct engine *en; /* borrowed */
	struct keep_reply msg;
	int fds[2]; /* owned */
	struct item *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static struct item *layers;                              /* owned; not begun yet */
static struct item *attached;                            /* owned; wait for the last layer */
static unsigned running;                                 /* threads */

static void put(struct item **list, struct engine *en, const struct keep_reply *msg, int *fds)
{
	struct item *it = calloc(1, sizeof(*it));

	if (!it) {
		/* Its readers are answered by their deadline. */
		log_error("out of memory: what an earlier engine left cannot be taken over");
		return;
	}
	it->en = en;
	it->msg = *msg;
	it->fds[0] = fds ? take_fd(&fds[0]) : -1;
	it->fds[1] = fds ? take_fd(&fds[1]) : -1;
	pthread_mutex_lock(&lock);
	it->next = *list;
	*list = it;
	pthread_mutex_unlock(&lock);
}

void adopt_layer(struct engine *en, const struct keep_reply *msg, int *fds)
{
	put(&layers, en, msg, fds);
}

void adopt_attached(struct engine *en, const struct keep_reply *msg)
{
	put(&attached, en, msg, NULL);
}

void adopt_cancel(const char *id)
{
	struct item *gone = NULL;

	pthread_mutex_lock(&lock);
	for (struct item **p = &attached; *p && !gone; p = &(*p)->next) {
		if (strcmp((*p)->msg.attach.id, id) == 0) {
			gone = *p;
			*p = gone->next;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	free(gone);
}

static struct item *take(struct item **list)
{
	struct item *it;

	pthread_mutex_lock(&lock);
	it = *list;
	if (it)
		*list = it->next;
	pthread_mutex_unlock(&lock);
	return it;
}

static void attach_again(struct engine *en, const struct keep_reply *msg)
{
	struct keep_attach *at = calloc(1, sizeof(*at));
	int r = -ENOMEM;

	if (at) {
		memcpy(at->id, msg->attach.id, sizeof(at->id));
		at->image = msg->attach.image;
		at->kind = msg->attach.kind;
		at->pid = msg->attach.pid;
		at->nlayers = msg->attach.nlayers;
		memcpy(at->layer, msg->attach.layer, sizeof(at->layer));
		memcpy(at->proved, msg->attach.proved, sizeof(at->proved));
		r = engine_attached(en, at);
	}
	if (r < 0)
		log_error("container %.*s: %s", LIMIT_ID, msg->attach.id, err_words(r));
	free(at);
}

/* Loop thread: attachments and their layers in one go, so that none can end in between. */
static int finish(void *ctx)
{
	struct engine *en = ctx;
	struct item *it;

	while ((it = take(&attached))) {
		attach_again(en, &it->msg);
		free(it);
	}
	fault_all_known(en);
	for (struct layer *l = en->layers; l; l = l->next)
		if (l->refs == 0)
			layer_reap(en, &l->diff_id, &l->scope);
	return 0;
}

static void *adopt_main(void *ctx)
{
	struct engine *en = ctx;
	struct err e = ERR_INIT;
	struct item *it;
	bool last;

	while ((it = take(&layers))) {
		if (layer_adopt(en, &it->msg, it->fds, &e) < 0)
			log_error("%s: its readers get EIO", e.text);
		free(it);
	}
	pthread_mutex_lock(&lock);
	last = --running == 0;
	pthread_mutex_unlock(&lock);
	if (last)
		loop_call(en->loop, finish, en);
	return NULL;
}

static unsigned wanted_threads(void)
{
	unsigned n = 1; /* also without any layer: somebody must finish */

	pthread_mutex_lock(&lock);
	for (struct item *it = layers; it && it->next && n < ADOPT_THREADS; it = it->next)
		n++;
	running = n;
	pthread_mutex_unlock(&lock);
	return n;
}

static void not_started(unsigned n)
{
	pthread_mutex_lock(&lock);
	running -= n;
	pthread_mutex_unlock(&lock);
}

void adopt_start(struct engine *en)
{
	unsigned n = wanted_threads(), started = 0;
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (started < n && pthread_create(&thread, NULL, adopt_main, en) == 0) {
		pthread_detach(thread);
		started++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (started < n)
		not_started(n - started);
	if (started == 0)
		log_error("no thread to take over what an earlier engine left");
}
