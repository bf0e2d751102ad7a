/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_ENGINE_H
#define PLUGIN_ENGINE_H

#include <stdint.h>

#include "plugin/fault/fault.h"
#include "plugin/fault/slots.h"
#include "plugin/keep.h"

struct err;
struct layer;
struct loop;
struct loop_io;
struct fault;
struct flight;
struct inherited;
struct space;
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

#define ENGINE_BUCKETS 1024 /* a few of the most mounted layers in each */

struct engine {
	struct loop *loop;         /* owned */
	struct slots *slots;       /* shared memory */
	int group[2];              /* fanotify groups by enum slot_group; borrowed */
	struct keep *keep;         /* owned; the keeper */
	struct loop_io *io_keep;   /* owned by the loop */
	struct flight *flight;     /* owned; spans wanted, fetchers, workers */
	struct space *space;       /* owned; how much content there may be */
	struct fault *fault;       /* owned; events that wait for an answer */
	struct ctl_server *server; /* owned */
	struct layer *layers;      /* list of mounted layers */
	struct layer *by_tar[ENGINE_BUCKETS], *by_fs[ENGINE_BUCKETS]; /* the same, for events */
	struct attachment *attachments;
	struct engine_counters count;
	struct inherited *inherited; /* what the keeper tells at the start; owned */
	uint64_t started_ns;
	uint32_t restarts; /* engines before this one */
	bool ready;        /* the keeper's HELLO is complete */
	bool stopping;
};

/* --- engine.c --- */
/* Runs in the cloned engine process until it is told to stop. Returns an exit status. */
int engine_main(int keep_sock, struct slots *slots, const int group[2]);

struct layer *engine_layer(struct engine *en, const struct digest *diff_id,
			   const struct digest *scope);

/*
 * A root file system was mounted (loop thread): recorded until the keeper says that it is gone. Its
 * layers are mounted and get a reference each.
 */
int engine_attached(struct engine *en, const struct keep_attach *at);
uint32_t engine_layer_mounts(const struct engine *en, const struct layer *l);

/* Runs @fn in a detached thread of its own; -ENOMEM or -EAGAIN. */
int engine_task(void (*fn)(void *ctx), void *ctx);

/* --- store/mounted.c; loop thread --- */
/* A mounted layer comes, or goes. */
void engine_layer_add(struct engine *en, struct layer *l);
void engine_layer_remove(struct engine *en, struct layer *l);
struct layer *engine_layer_by_tar(struct engine *en, uint64_t dev, uint64_t ino);
struct layer *engine_layer_by_fs(struct engine *en, uint64_t fs_dev);

#endif
