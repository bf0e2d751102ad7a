/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_GUARD_H
#define PLUGIN_GUARD_H

#include <stdbool.h>

#include "plugin/ward.h"

struct err;

/*
 * The guardian shares the keeper's descriptor table and does nothing but start the next keeper
 * when one dies, so the fanotify groups never lose their last holder (law 2). SIGTERM and SIGINT
 * stop everything; SIGHUP rereads the settings. @first: start a keeper at once (false for a
 * guardian that a living keeper made). Returns the exit status of tarnd: when its first keeper
 * cannot start, after a line that says why.
 *
 * When containers still use layers at a stop, a copy of the guardian stays behind with all
 * descriptors and waits at ward->fd_linger for a successor.
 */
int guard_run(const struct birth *b, bool first);

/*
 * For a tarnd that ends with @status before there is a keeper: what it took over from an earlier
 * one is left to a copy of it, as at a stop. Returns @status.
 */
int guard_abandon(const struct birth *b, int status);

/*
 * Asks the guardian that an earlier tarnd left behind in @store for everything it holds. One that
 * still has a keeper stops it first. On success @ret_ward and @ret_slots are mapped, their
 * descriptors are this process's, and the old guardian is gone. -ENOENT: nobody is there. -EAGAIN:
 * it had nothing to hand over and has ended, so that the store is free.
 */
int guard_take_over(int store, struct ward **ret_ward, struct slots **ret_slots, struct err *e);

/* The listening socket a guardian may linger at: @store/guardian.sock. */
int guard_listen(int store, struct err *e);

#endif
