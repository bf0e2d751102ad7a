/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILL_WORKER_H
#define PLUGIN_FILL_WORKER_H

#include <stdint.h>

#include "oci/base/limits.h"

struct loop;

/*
 * The engine's worker threads: what takes time (digests, reads, writes, fdatasync, waiting for the
 * keeper) happens here, on self-contained jobs. A job is submitted on the loop thread, run by one
 * thread and handed back on the loop thread; nothing is shared but the two queues between them.
 * Nothing here allocates after workers_new().
 */
struct work {
	void (*run)(struct work *w,
		    void *scratch);   /* in a thread; @scratch: WORKER_SCRATCH bytes */
	void (*done)(struct work *w); /* on the loop; frees the job; may be NULL for a static one */
	struct work *next;            /* the queues' */
};

/*
 * Work that keeps a CPU busy, FIRST before SECOND, is for as many threads as there are CPUs. Work
 * that may block for seconds has threads of its own for each kind, so that none of it can hold up
 * a reader or the others.
 */
enum work_class {
	WORK_FIRST = 0, /* a reader waits */
	WORK_SECOND,
	WORK_KEEPER, /* keep_call() */
	WORK_SYNC,   /* fdatasync */
	WORK_WHOLE,  /* a whole tar is read */
	WORK_CLASSES,
};

#define WORKER_SCRATCH LIMIT_SPAN_MAX

struct workers;

/* @ncpu threads (at least one) for FIRST and SECOND. @loop is borrowed. */
int workers_new(struct loop *loop, uint32_t ncpu, struct workers **ret);
/* Runs everything submitted to its end, done() included, then ends the threads. */
struct workers *workers_free(struct workers *ws);
void workers_submit(struct workers *ws, struct work *w, enum work_class class);

#endif
