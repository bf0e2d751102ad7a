/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILL_FLIGHT_IMPL_H
#define PLUGIN_FILL_FLIGHT_IMPL_H

/*
 * What the files behind flight.h share. Everything is the loop thread's, except what a struct work
 * carries while a worker has it.
 *
 *	flight.c    the public face: want, forget, drain; the queues
 *	dispatch.c  which span goes to which fetcher, from which source
 *	blame.c     a run that failed: what is said of its source and spans; they are queued again
 *	source.c    which source is asked, and when; descriptors of local blobs
 *	host.c      what is known of registries, whatever is fetched from them
 *	pool.c      fetcher processes and what they say
 *	span_work.c spans in workers: copy, digest, pwrite; reading back
 *	sync.c      fdatasync, hits on DIRTY and LOST spans
 *	complete.c  is the tar the layer?
 */

#include <stdbool.h>
#include <stdint.h>

#include "plugin/fill/flight.h"
#include "plugin/fill/plan.h"
#include "plugin/fill/wire.h"
#include "plugin/fill/worker.h"
#include "plugin/store/layer.h"

#define LATENCY_KEPT 4096
/* Reading back is all CPU: more than keeps every worker busy would only delay new demand. */
#define CHECKS_MAX (2 * PRIO_COUNT)

/* One job of a fetcher: spans [first, end) of a layer, of which [first, next) have come. */
struct run {
	struct layer *layer; /* borrowed, counted in layer->inflight; NULL = the fetcher is idle */
	struct host *host;   /* borrowed; NULL: the source is local */
	uint32_t source;     /* index of layer->sources */
	uint32_t first, next, end;
	uint32_t id;
	enum prio prio;
	uint64_t bytes;    /* of the blob that were asked for */
	uint64_t received; /* of them, so the fetcher says */
	uint64_t heard_ms; /* clock_ms() of its last word */
};

/* A registry, by its name; it is known until the engine ends. */
struct host {
	struct host *next;
	uint32_t fails;         /* in a row, over whatever was asked */
	uint64_t not_before_ms; /* backoff, or what it asked for: clock_ms() */
	char name[LIMIT_NAME];
};

struct fetcher {
	struct flight *flight; /* borrowed */
	struct fetcher *next;  /* in the pool; not once it is dropped */
	uint32_t refs;         /* the pool's, and one for each span a worker copies */
	int32_t pid;
	int sock;              /* owned, non-blocking; workers send their FETCH_ACKs on it */
	const uint8_t *buffer; /* owned mapping of FETCH_BUFFER_SIZE, read only */
	struct loop_io *io;    /* owned */
	struct run run;
};

struct drain {
	struct layer *layer; /* borrowed */
	uint32_t failures;   /* layer->sync_failures when it began */
	void (*done)(void *ctx, int result);
	void *ctx;
	struct drain *next;
};

struct flight {
	struct engine *en;       /* borrowed */
	struct workers *workers; /* owned */
	int kick;                /* owned eventfd: dispatch at the end of this round */
	struct loop_io *kick_io; /* owned */
	bool kicked;
	bool closing;
	struct loop_timer *wake; /* owned by the loop */
	uint64_t wake_ms;
	struct fetcher *fetchers; /* owned, a reference each */
	uint32_t nfetchers;
	struct host *hosts;              /* owned */
	struct layer *ring[SPAN_QUEUES]; /* borrowed; the layer to look at first */
	uint32_t nring[SPAN_QUEUES];     /* layers in it */
	uint32_t checks;                 /* reading back now */
	uint32_t last_id;
	uint32_t seed;          /* of flight_random() */
	uint64_t expired_ms;    /* when the queues were last looked through for old demand */
	bool no_room;           /* room is being made: nothing is fetched until flight_room() */
	uint64_t full_until_ms; /* no space: nothing but demand until then */
	struct drain *drains;   /* owned */
	struct fetch_job job;   /* what run_start() fills */
	uint32_t latency_us[LATENCY_KEPT];
	uint64_t nlatency; /* ever added */
};

/* --- flight.c --- */
/* The name of a layer in log lines: "layer <12 hex digits>". */
#define LAYER_NAME 24
const char *layer_name(const struct layer *l, char out[LAYER_NAME]);
void flight_kick(struct flight *f);
/* Only to keep hosts out of step. */
uint32_t flight_random(struct flight *f);
/* Makes sure that flight_dispatch() runs at clock_ms() @at or before. */
void flight_wake_at(struct flight *f, uint64_t at_ms);
void queue_put(struct flight *f, struct layer *l, uint32_t span, bool front);
void queue_drop(struct flight *f, struct layer *l, uint32_t span);
/* Takes back what `inflight` of a layer counted; finishes a drain that waited for it. */
void flight_let_go(struct flight *f, struct layer *l);
bool flight_draining(const struct flight *f, const struct layer *l);

/* --- dispatch.c --- */
void flight_dispatch(struct flight *f);
/* @span, not in a queue, could not be had this time: again if a reader waits, else ABSENT. */
void span_again(struct flight *f, struct layer *l, uint32_t span);
/* @span, not in a queue, cannot be had: ABSENT, and who waits is denied with @err (> 0). */
void span_give_up(struct flight *f, struct layer *l, uint32_t span, int err);

/* --- blame.c --- */
/*
 * The fetcher's job ended before its last span: @code as in FETCH_FAIL, 0 when it died, or
 * -ECANCELED when it was stopped.
 */
void run_failed(struct flight *f, struct run *run, int code, const char *text,
		uint32_t retry_after_s);
void run_end(struct flight *f, struct run *run);

/* --- source.c --- */
/* In span.refused and span.poison; a layer has at most LIMIT_SOURCES. */
static inline uint32_t source_bit(uint32_t source)
{
	return 1u << source % 32;
}
enum { SOURCE_WAIT = -1, SOURCE_NONE = -2, SOURCE_LATER = -3 /* source.c only */ };
/* The source to ask for @span now; or SOURCE_WAIT (flight is woken when to look again). */
int source_pick(struct flight *f, struct layer *l, uint32_t span);
/* It failed in a way that may pass. The host, if it is @trouble of its own, is left alone, too. */
void source_failed(struct flight *f, struct layer *l, uint32_t source, const char *text,
		   uint32_t retry_after_s, bool trouble);
/* After source_failed(): it is not to be pressed with a password that it does not take. */
void source_denied(struct flight *f, struct layer *l, uint32_t source);
/* It gave wrong bytes for @span, without which it cannot give those behind it and before @end. */
void source_bad(struct flight *f, struct layer *l, uint32_t source, uint32_t span, uint32_t end,
		const char *text);
void source_good(struct flight *f, struct layer *l, uint32_t source);
const char *source_name(const struct layer_source *s, char *out, size_t size);

/* --- host.c --- */
/* Made when it is not known yet; NULL for local sources, and when out of memory. */
struct host *host_of(struct flight *f, const struct layer_source *s);
void host_failed(struct flight *f, struct host *h, uint32_t retry_after_s);
/* Fetchers that are at work for it. */
uint32_t host_running(const struct flight *f, const struct host *h);
void hosts_free(struct flight *f);

/* --- pool.c --- */
/* An idle fetcher for a run of this priority, or NULL. */
struct fetcher *pool_idle(struct flight *f, enum prio prio);
/* Sends f->job with @fd (-1: none) and fills fetcher->run from @run. False: it was dropped. */
bool pool_start(struct flight *f, struct fetcher *fe, const struct run *run, int fd);
/* Fetchers that have been silent too long are dropped; the others' time is waited for. */
void pool_watch(struct flight *f);
/*
 * A reader waits for @h, which nobody is asking, and no fetcher is idle: one that has long waited
 * for another host, which has more of them, is taken away from it. True when one was.
 */
bool pool_reclaim(struct flight *f, const struct host *h);
/*
 * Closes the socket and has the process ended; its run has failed with @code: 0 when that is the
 * fetcher's fault, -ECANCELED when it is nobody's. @why is logged, if not NULL.
 */
void pool_drop(struct flight *f, struct fetcher *fe, int code, const char *why);
void pool_drop_layer(struct flight *f, const struct layer *l);
void fetcher_unref(struct fetcher *fe);

/* --- span_work.c --- */
/* The store has no room for @span, not in a queue; @err and @disk as for space_want(). */
void span_no_room(struct flight *f, struct layer *l, uint32_t span, int err, bool disk);
/* The fetcher says that @slot holds @span: to a worker. */
void span_work_write(struct flight *f, struct fetcher *fe, uint32_t slot, uint32_t span);
/* CHECKING spans, to workers. False: no memory just now. */
bool span_work_check(struct flight *f, struct layer *l, uint32_t span);
/* May be sent by any thread while it holds a reference. */
void fetcher_ack(struct fetcher *fe, uint32_t slot);

/* --- sync.c --- */
void sync_arm(struct flight *f, struct layer *l);
void sync_start(struct flight *f, struct layer *l);

#endif
