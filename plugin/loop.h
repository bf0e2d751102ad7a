/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_LOOP_H
#define PLUGIN_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A small epoll loop. One thread runs it and owns everything its callbacks touch; other threads
 * reach it only through loop_post() and loop_call().
 */
struct loop;
struct loop_io;
struct loop_timer;

int loop_new(struct loop **ret);
struct loop *loop_free(struct loop *l);

/* Runs until loop_quit(). Returns 0 or -errno. */
int loop_run(struct loop *l);
void loop_quit(struct loop *l);

typedef void (*loop_io_fn)(void *ctx, uint32_t events); /* EPOLLIN, … */

/*
 * Watches @fd (borrowed; remove before closing it). Callbacks with urgent = true run before all
 * others of the same round: the fanotify groups. A callback may remove any io, its own included.
 */
int loop_add_io(struct loop *l, int fd, uint32_t events, bool urgent, loop_io_fn fn, void *ctx,
		struct loop_io **ret);
int loop_set_events(struct loop_io *io, uint32_t events);
struct loop_io *loop_remove_io(struct loop_io *io); /* NULL-safe; returns NULL */

/*
 * Calls @fn once, @ms from now. Freed by the loop after it ran; cancel before that to stop it.
 * Always 0: where there is no memory, it waits for it.
 */
int loop_after(struct loop *l, uint64_t ms, void (*fn)(void *ctx), void *ctx,
	       struct loop_timer **ret); /* ret may be NULL */
void loop_cancel(struct loop_timer *t);

/* From any thread: runs @fn on the loop soon. Always 0, as loop_after(). */
int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* From any other thread: runs @fn on the loop and waits for it; returns what it returned. */
int loop_call(struct loop *l, int (*fn)(void *ctx), void *ctx);

/* CLOCK_MONOTONIC. */
uint64_t clock_ns(void);
static inline uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

#endif
