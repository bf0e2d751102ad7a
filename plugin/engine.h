/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_ENGINE_H
#define PLUGIN_ENGINE_H

#include <stdint.h>

#include "plugin/fault/slots.h"
#include "plugin/keep.h"

struct err;
struct layer;
struct loop;
struct flight;
struct workers;
struct ctl_server;

/*
 * The engine process: no rights, one loop thread that owns all tables, worker threads for
 * digests and writes, a thread per control request. This struct is the loop thread's.
 */
struct engine_counters {
	uint64_t pre_access, open_exec, denied_busy, hits, misses, failed;
	uint64_t fetched, filled, evicted; /* bytes */
};

struct attachment {
	char id[LIMIT_ID];
	struct digest image;
	uint32_t kind; /* enum attach_kind */
	int32_t pid;
	uint32_t nlayers;
	struct layer *layer[LIMIT_LAYERS]; /* borrowed; a reference each */
	struct attachment *next;
};

struct engine {
	struct loop *loop;            /* owned */
	struct slots *slots;          /* shared memory */
	int group[2];                 /* fanotify groups by enum slot_group; borrowed */
	struct keep *keep;            /* owned; the keeper */
	struct flight *flight;        /* owned; spans wanted, fetchers, workers */
	struct ctl_server *server;    /* owned */
	struct layer *layers;         /* list of mounted layers */
	struct attachment *attachments;
	struct engine_counters count;
	uint64_t started_ns;
	uint32_t restarts;
	bool ready;                   /* the keeper's HELLO is complete */
	bool stopping;
};

/* --- engine.c --- */
/* Runs in the cloned engine process until it is told to stop. Returns an exit status. */
int engine_main(int keep_sock, struct slots *slots, const int group[2]);

struct layer *engine_layer_by_tar(struct engine *en, uint64_t dev, uint64_t ino);
struct layer *engine_layer_by_fs(struct engine *en, uint64_t fs_dev);
struct layer *engine_layer(struct engine *en, const struct digest *diff_id,
			   const struct digest *scope);

/* --- fault/fault.c: from a kernel event to a kernel answer; loop thread --- */
struct fault;
int fault_new(struct engine *en, struct fault **ret);
/* Something about @l's spans [first, last] changed: waiting slots are looked at again. */
void fault_recheck(struct engine *en, struct layer *l, uint32_t first, uint32_t last);
/* Spans of @l cannot be had: slots that need one of them are denied with @err (law 9). */
void fault_deny(struct engine *en, struct layer *l, uint32_t first, uint32_t last, int err);
/* A layer appeared: slots left over from an earlier engine that name it are handled. */
void fault_layer_ready(struct engine *en, struct layer *l);
/*
 * An explicit eviction of @l began or ended: while @nids (sorted, borrowed) is set, open and exec
 * of those inodes get EBUSY, or wait when @wait. NULL ends it and releases who waited.
 */
void fault_busy_set(struct engine *en, struct layer *l, const uint64_t *nids, size_t n,
		    bool wait);

#endif
