/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PATIENCE_H
#define PLUGIN_STORE_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct err;
struct layer;

/*
 * A task brings much of a layer here: when what failed is wanted again, and when there is no hope
 * left. What counts is bytes gained, not that something happens: spans that always fail change
 * their states for ever.
 */
struct patience {
	const struct engine *en; /* borrowed */
	const struct layer *l;   /* borrowed; a reference is held */
	uint64_t since_ms;       /* clock_ms() when something was last gained */
	uint64_t most;           /* bytes that ever were here: a disk may lose them again */
	uint64_t again_ms;       /* clock_ms() when what is absent is to be wanted again */
	uint64_t delay_ms;
	bool closed;   /* content that nobody waits for is not taken just now */
	char why[256]; /* what a source said last */
};

#define PATIENCE_LOOK_MS 200 /* between two looks of the task */

void patience_begin(struct patience *p, const struct engine *en, const struct layer *l);

/* Is what is absent to be wanted now? Only once none of it is on its way any more. Loop only. */
bool patience_want(struct patience *p, bool busy);

/*
 * After each look: @there bytes are here; @working: something else is done about the layer that
 * takes its time. 0, or with words that begin with @what: -ENOSPC, -EDQUOT, -ETIMEDOUT. The task's.
 */
int patience_left(struct patience *p, uint64_t there, bool working, const char *what,
		  struct err *e);

#endif
