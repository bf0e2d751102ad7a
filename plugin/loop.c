/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "plugin/must_have.h"

#define ROUND_MAX 64 /* events taken from epoll at a time */

struct loop_io {
	struct loop *loop; /* borrowed */
	int fd;            /* borrowed */
	bool urgent;
	bool removed; /* freed at the end of the round */
	loop_io_fn fn;
	void *ctx;
	struct loop_io *next_removed;
};

struct loop_timer {
	struct loop *loop; /* borrowed */
	uint64_t at_ms;
	void (*fn)(void *ctx);
	void *ctx;
	struct loop_timer *next; /* by at_ms */
};

struct post {
	void (*fn)(void *ctx);
	void *ctx;
	struct post *next;
	bool borrowed; /* its owner waits until fn has been called, and takes it back then */
};

struct loop {
	int epoll; /* owned */
	int wake;  /* owned eventfd */
	bool quit;
	struct loop_timer *timers;
	struct loop_io *removed;
	pthread_mutex_t lock; /* guards the queue of posts, the one thing other threads touch */
	struct post *first, **last;
};

uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* #syscalls engine: epoll_create1 eventfd2 epoll_ctl epoll_wait epoll_pwait read */
int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	struct epoll_event ev = {.events = EPOLLIN};

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->lock, NULL);
	l->last = &l->first;
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->wake < 0 || l->epoll < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &ev) < 0) {
		int r = -errno;

		loop_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

static void free_removed(struct loop *l)
{
	while (l->removed) {
		struct loop_io *io = l->removed;

		l->removed = io->next_removed;
		free(io);
	}
}

struct loop *loop_free(struct loop *l)
{
	if (!l)
		return NULL;
	while (l->timers)
		loop_cancel(l->timers);
	while (l->first) {
		struct post *p = l->first;

		l->first = p->next;
		if (!p->borrowed)
			free(p);
	}
	free_removed(l);
	cleanup_closep(&l->wake);
	cleanup_closep(&l->epoll);
	pthread_mutex_destroy(&l->lock);
	free(l);
	return NULL;
}

void loop_quit(struct loop *l)
{
	l->quit = true;
}

int loop_add_io(struct loop *l, int fd, uint32_t events, bool urgent, loop_io_fn fn, void *ctx,
		struct loop_io **ret)
{
	struct loop_io *io = calloc(1, sizeof(*io));
	struct epoll_event ev = {.events = events, .data.ptr = io};

	if (!io)
		return -ENOMEM;
	*io = (struct loop_io){.loop = l, .fd = fd, .urgent = urgent, .fn = fn, .ctx = ctx};
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int r = -errno;

		free(io);
		return r;
	}
	*ret = io;
	return 0;
}

int loop_set_events(struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = io};

	return epoll_ctl(io->loop->epoll, EPOLL_CTL_MOD, io->fd, &ev) < 0 ? -errno : 0;
}

struct loop_io *loop_remove_io(struct loop_io *io)
{
	if (!io || io->removed)
		return NULL;
	epoll_ctl(io->loop->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	/* It may still be named by an event of this round. */
	io->removed = true;
	io->next_removed = io->loop->removed;
	io->loop->removed = io;
	return NULL;
}

int loop_after(struct loop *l, uint64_t ms, void (*fn)(void *ctx), void *ctx,
	       struct loop_timer **ret)
{
	struct loop_timer *t = must_have(sizeof(*t)), **at = &l->timers;

	*t = (struct loop_timer){.loop = l, .at_ms = clock_ms() + ms, .fn = fn, .ctx = ctx};
	while (*at && (*at)->at_ms <= t->at_ms)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	if (ret)
		*ret = t;
	return 0;
}

void loop_cancel(struct loop_timer *t)
{
	for (struct loop_timer **at = &t->loop->timers; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			free(t);
			return;
		}
	}
}

static void run_timers(struct loop *l)
{
	uint64_t now = clock_ms();

	while (l->timers && l->timers->at_ms <= now) {
		struct loop_timer *t = l->timers;

		l->timers = t->next;
		t->fn(t->ctx);
		free(t);
	}
}

static int wait_ms(const struct loop *l)
{
	uint64_t now = clock_ms(), ms;

	if (!l->timers)
		return -1;
	ms = l->timers->at_ms > now ? l->timers->at_ms - now : 0;
	return ms < INT_MAX ? (int)ms : INT_MAX; /* one that is further away is looked at again */
}

static void put_post(struct loop *l, struct post *p)
{
	uint64_t one = 1;

	pthread_mutex_lock(&l->lock);
	*l->last = p;
	l->last = &p->next;
	pthread_mutex_unlock(&l->lock);
	(void)!write(l->wake, &one, sizeof(one)); /* fails only when it is already readable */
}

int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	struct post *p = must_have(sizeof(*p));

	*p = (struct post){.fn = fn, .ctx = ctx};
	put_post(l, p);
	return 0;
}

static void run_posts(struct loop *l)
{
	uint64_t count;
	struct post *p;

	(void)!read(l->wake, &count, sizeof(count));
	pthread_mutex_lock(&l->lock);
	p = l->first;
	l->first = NULL;
	l->last = &l->first;
	pthread_mutex_unlock(&l->lock);
	while (p) {
		struct post *next = p->next;
		bool borrowed = p->borrowed;

		p->fn(p->ctx);
		if (!borrowed)
			free(p);
		p = next;
	}
}

struct call {
	int (*fn)(void *ctx);
	void *ctx;
	int result;
	bool done;
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

static void run_call(void *ctx)
{
	struct call *c = ctx;
	int r = c->fn(c->ctx);

	pthread_mutex_lock(&c->lock);
	c->result = r;
	c->done = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

int loop_call(struct loop *l, int (*fn)(void *ctx), void *ctx)
{
	struct call c = {.fn = fn,
			 .ctx = ctx,
			 .lock = PTHREAD_MUTEX_INITIALIZER,
			 .cond = PTHREAD_COND_INITIALIZER};
	struct post p = {.fn = run_call, .ctx = &c, .borrowed = true};

	put_post(l, &p);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
	return c.result;
}

static bool run_ios(struct loop *l, const struct epoll_event *ev, int n, bool urgent)
{
	bool posts = false;

	for (int i = 0; i < n; i++) {
		struct loop_io *io = ev[i].data.ptr;

		if (!io)
			posts = true;
		else if (io->urgent == urgent && !io->removed)
			io->fn(io->ctx, ev[i].events);
	}
	return posts;
}

int loop_run(struct loop *l)
{
	struct epoll_event ev[ROUND_MAX];

	while (!l->quit) {
		int n = epoll_wait(l->epoll, ev, ROUND_MAX, wait_ms(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		run_ios(l, ev, n, true);
		if (run_ios(l, ev, n, false))
			run_posts(l);
		run_timers(l);
		free_removed(l);
	}
	return 0;
}
