/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_DESCRIPTORS_H
#define PLUGIN_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct slots;

/*
 * A process of the daemon may have so many descriptors open (RLIMIT_NOFILE), and nobody may use up
 * what others need. So they are shared out at the start:
 *
 *	a quarter   events that wait for an answer (slots); the readers behind them wait in the
 *	            kernel's queue, unread and undenied
 *	1/16        control clients, two or three descriptors each while they are served
 *	1/8         mounted layers, three descriptors each
 *	the rest    fetchers, the processes' own
 *
 * That is arithmetic; what makes sure of it is that no event is read unless a number is free for
 * its descriptor, with DESCRIPTORS_SPARE above it for those that other threads may be opening at
 * that moment (fault.c).
 */
#define DESCRIPTORS_SPARE 16

/*
 * Raises the limit to the most that is permitted and says what that is; -EMFILE when it is below
 * LIMIT_NOFILE_LEAST. The log warns where readers may have to wait their turn.
 */
int descriptors_raise(uint32_t *ret, struct err *e);

/* Shares @n of them out: the fields of @t, which the engine goes by. */
void descriptors_share(struct slots *t, uint32_t n);
/* How many layers that is; the keeper's own word, as it believes no number of the engine's. */
uint32_t descriptors_layers(uint32_t n);

/*
 * Of @n that may be open, is one left for an event? Would the kernel find no number for it, it
 * would deny the reader (EMFILE). @any is a descriptor that is open.
 */
bool descriptors_left(uint32_t n, int any);

#endif
