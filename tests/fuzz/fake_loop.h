/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_FAKE_LOOP_H
#define TESTS_FUZZ_FAKE_LOOP_H

/*
 * The engine's loop and its workers in one thread and without waiting, so that the same input takes
 * the same way each time. The clock moves only when it is told to.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "plugin/fill/worker.h"
#include "plugin/loop.h"

#define FAKE_IOS 16

struct loop_io {
	int fd;
	bool used;
	loop_io_fn fn;
	void *ctx;
};

struct loop_timer {
	uint64_t at_ms;
	void (*fn)(void *ctx);
	void *ctx;
	struct loop_timer *next;
};

struct workers {
	struct work *first, **last;
	void *scratch; /* owned */
};

static struct {
	uint64_t now_ms;
	struct loop_io io[FAKE_IOS];
	struct loop_timer *timers; /* owned */
	struct workers workers;
} fake_loop = {.now_ms = 1000000};

/* --- the loop --- */

uint64_t clock_ns(void)
{
	return fake_loop.now_ms * 1000000;
}

int loop_add_io(struct loop *l, int fd, uint32_t events, bool urgent, loop_io_fn fn, void *ctx,
		struct loop_io **ret)
{
	for (int i = 0; i < FAKE_IOS; i++) {
		struct loop_io *io = &fake_loop.io[i];

		if (io->used)
			continue;
		*io = (struct loop_io){.fd = fd, .used = true, .fn = fn, .ctx = ctx};
		*ret = io;
		return 0;
	}
	abort();
}

struct loop_io *loop_remove_io(struct loop_io *io)
{
	if (io)
		io->used = false;
	return NULL;
}

int loop_after(struct loop *l, uint64_t ms, void (*fn)(void *ctx), void *ctx,
	       struct loop_timer **ret)
{
	struct loop_timer *t = malloc(sizeof(*t));

	if (!t)
		abort();
	*t = (struct loop_timer){fake_loop.now_ms + ms, fn, ctx, fake_loop.timers};
	fake_loop.timers = t;
	if (ret)
		*ret = t;
	return 0;
}

void loop_cancel(struct loop_timer *t)
{
	struct loop_timer **at = &fake_loop.timers;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	free(t);
}

/* --- workers --- */

int workers_new(struct loop *loop, uint32_t ncpu, struct workers **ret)
{
	struct workers *ws = &fake_loop.workers;

	if (!ws->scratch && posix_memalign(&ws->scratch, 4096, WORKER_SCRATCH) != 0)
		abort();
	ws->first = NULL;
	ws->last = &ws->first;
	*ret = ws;
	return 0;
}

void workers_submit(struct workers *ws, struct work *w, enum work_class class)
{
	w->next = NULL;
	*ws->last = w;
	ws->last = &w->next;
}

static bool run_work(struct workers *ws)
{
	struct work *w = ws->first;

	if (!w)
		return false;
	ws->first = w->next;
	if (!ws->first)
		ws->last = &ws->first;
	w->run(w, ws->scratch);
	if (w->done)
		w->done(w);
	return true;
}

struct workers *workers_free(struct workers *ws)
{
	while (ws && run_work(ws))
		;
	return NULL;
}

/* --- what the test does --- */

static bool run_ios(void)
{
	bool any = false;

	for (int i = 0; i < FAKE_IOS; i++) {
		struct loop_io *io = &fake_loop.io[i];
		struct pollfd p = {.fd = io->fd, .events = POLLIN};

		if (io->used && poll(&p, 1, 0) > 0) {
			io->fn(io->ctx, (uint32_t)p.revents);
			any = true;
		}
	}
	return any;
}

static bool run_timers(void)
{
	for (struct loop_timer *t = fake_loop.timers; t; t = t->next) {
		struct loop_timer was = *t;

		if (was.at_ms > fake_loop.now_ms)
			continue;
		loop_cancel(t);
		was.fn(was.ctx);
		return true;
	}
	return false;
}

/* Until nothing is left to be done at this time. */
static inline void fake_loop_settle(void)
{
	for (int i = 0; i < 1000; i++)
		if (!run_ios() && !run_work(&fake_loop.workers) && !run_timers())
			return;
	abort();
}

#endif
