/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fill/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/limits.h"
#include "plugin/loop.h"

/* Threads for each class; FIRST and SECOND share theirs, one for each CPU. */
static const uint32_t threads_of[WORK_CLASSES] = {
	[WORK_KEEPER] = 1,
	[WORK_SYNC] = 2,
	[WORK_WHOLE] = 1,
};

/* Who has had nothing to do for so long gives the memory of its scratch back. */
#define IDLE_MS 1000u

struct queue {
	struct work *first, **last;
};

struct thread {
	struct workers *ws;    /* borrowed */
	enum work_class class; /* WORK_FIRST: and WORK_SECOND */
	bool started;
	pthread_t id;
	void *scratch; /* owned */
	bool used;     /* since it was given back */
};

struct workers {
	struct loop_io *io;                /* owned */
	int wake;                          /* owned eventfd: something is in `done` */
	pthread_mutex_t lock;              /* guards the queues and stop */
	pthread_cond_t more[WORK_CLASSES]; /* of WORK_SECOND too it is WORK_FIRST's */
	struct queue todo[WORK_CLASSES];
	struct queue done;
	bool stop;
	uint32_t n;
	struct thread *thread; /* owned, n */
};

static void queue_init(struct queue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void queue_put(struct queue *q, struct work *w)
{
	w->next = NULL;
	*q->last = w;
	q->last = &w->next;
}

static struct work *queue_get(struct queue *q)
{
	struct work *w = q->first;

	if (w) {
		q->first = w->next;
		if (!q->first)
			q->last = &q->first;
	}
	return w;
}

static struct work *next_work(struct workers *ws, enum work_class class)
{
	struct work *w = queue_get(&ws->todo[class]);

	return w || class != WORK_FIRST ? w : queue_get(&ws->todo[WORK_SECOND]);
}

/* With the lock held. */
static void wait_for_work(struct thread *t)
{
	struct workers *ws = t->ws;
	struct timespec until;

	if (!t->used) {
		pthread_cond_wait(&ws->more[t->class], &ws->lock);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_MS / 1000;
	if (pthread_cond_clockwait(&ws->more[t->class], &ws->lock, CLOCK_MONOTONIC, &until) !=
	    ETIMEDOUT)
		return;
	t->used = false;
	/* The loop thread wants the lock; what it submits meanwhile is looked for after this. */
	pthread_mutex_unlock(&ws->lock);
	(void)madvise(t->scratch, WORKER_SCRATCH, MADV_DONTNEED);
	pthread_mutex_lock(&ws->lock);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct workers *ws = t->ws;
	uint64_t one = 1;

	pthread_mutex_lock(&ws->lock);
	for (;;) {
		struct work *w = next_work(ws, t->class);

		if (!w && ws->stop)
			break;
		if (!w) {
			wait_for_work(t);
			continue;
		}
		t->used = true;
		pthread_mutex_unlock(&ws->lock);
		w->run(w, t->scratch);
		pthread_mutex_lock(&ws->lock);
		queue_put(&ws->done, w);
		(void)!write(ws->wake, &one, sizeof(one)); /* full means readable */
	}
	pthread_mutex_unlock(&ws->lock);
	return NULL;
}

static struct work *take_done(struct workers *ws)
{
	struct work *first;

	pthread_mutex_lock(&ws->lock);
	first = ws->done.first;
	queue_init(&ws->done);
	pthread_mutex_unlock(&ws->lock);
	return first;
}

static void hand_back(void *ctx, uint32_t events)
{
	struct workers *ws = ctx;
	uint64_t count;
	struct work *w;

	(void)!read(ws->wake, &count, sizeof(count));
	w = take_done(ws);
	while (w) {
		struct work *next = w->next;

		if (w->done)
			w->done(w);
		w = next;
	}
}

void workers_submit(struct workers *ws, struct work *w, enum work_class class)
{
	pthread_mutex_lock(&ws->lock);
	queue_put(&ws->todo[class], w);
	pthread_cond_signal(&ws->more[class == WORK_SECOND ? WORK_FIRST : class]);
	pthread_mutex_unlock(&ws->lock);
}

/* Signals belong to the loop thread. */
static int start(struct thread *t)
{
	sigset_t all, before;
	int r;

	if (posix_memalign(&t->scratch, 4096, WORKER_SCRATCH) != 0)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&t->id, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	t->started = r == 0;
	return -r;
}

static int start_all(struct workers *ws, uint32_t ncpu)
{
	uint32_t at = 0;

	ws->n = ncpu ? ncpu : 1;
	for (int c = 0; c < WORK_CLASSES; c++)
		ws->n += threads_of[c];
	ws->thread = calloc(ws->n, sizeof(*ws->thread));
	if (!ws->thread)
		return -ENOMEM;
	for (int c = WORK_KEEPER; c < WORK_CLASSES; c++)
		for (uint32_t i = 0; i < threads_of[c]; i++)
			ws->thread[at++].class = (enum work_class)c;
	for (uint32_t i = 0; i < ws->n; i++) {
		int r;

		ws->thread[i].ws = ws;
		r = start(&ws->thread[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

int workers_new(struct loop *loop, uint32_t ncpu, struct workers **ret)
{
	struct workers *ws = calloc(1, sizeof(*ws));
	int r;

	if (!ws)
		return -ENOMEM;
	pthread_mutex_init(&ws->lock, NULL);
	for (int i = 0; i < WORK_CLASSES; i++) {
		pthread_cond_init(&ws->more[i], NULL);
		queue_init(&ws->todo[i]);
	}
	queue_init(&ws->done);
	ws->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = ws->wake < 0 ? -errno : 0;
	if (r == 0)
		r = loop_add_io(loop, ws->wake, EPOLLIN, false, hand_back, ws, &ws->io);
	if (r == 0)
		r = start_all(ws, ncpu);
	if (r < 0) {
		workers_free(ws);
		return r;
	}
	*ret = ws;
	return 0;
}

static void join_all(struct workers *ws)
{
	pthread_mutex_lock(&ws->lock);
	ws->stop = true;
	for (int i = 0; i < WORK_CLASSES; i++)
		pthread_cond_broadcast(&ws->more[i]);
	pthread_mutex_unlock(&ws->lock);
	for (uint32_t i = 0; ws->thread && i < ws->n; i++) {
		if (ws->thread[i].started)
			pthread_join(ws->thread[i].id, NULL);
		free(ws->thread[i].scratch);
	}
}

struct workers *workers_free(struct workers *ws)
{
	if (!ws)
		return NULL;
	join_all(ws);
	hand_back(ws, 0);
	loop_remove_io(ws->io);
	cleanup_closep(&ws->wake);
	for (int i = 0; i < WORK_CLASSES; i++)
		pthread_cond_destroy(&ws->more[i]);
	pthread_mutex_destroy(&ws->lock);
	free(ws->thread);
	free(ws);
	return NULL;
}
