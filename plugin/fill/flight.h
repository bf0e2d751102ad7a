/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILL_FLIGHT_H
#define PLUGIN_FILL_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;
struct layer;
struct err;
struct fetch_job;
struct fetch_note;

/*
 * Spans that are wanted, and what is being done about it: single flight (a span wanted twice is
 * one job), demand before read-ahead before background fill, neighbours merged into one run, a
 * pool of fetcher processes of which no host gets all, worker threads that verify and write. Loop
 *thread only, unless a function says otherwise.
 *
 *	want → queue → run (a fetcher) → span in the shared buffer → worker: copy, sha256,
 *	pwrite → span_set(DIRTY), fault_recheck() → (soon) fdatasync → CLEAN → present file
 *
 * What fails is tried again with the next source, or after a backoff with jitter, until the
 * deadline has passed since a reader last wanted the span (flight_want() with PRIO_DEMAND): then
 * nobody can be waiting any more, and whoever does is denied with EIO. When no source is left the
 * waiters are denied at once, unless there is no deadline: then they wait for that, too. Spans only
 *wanted by read-ahead or fill go back to ABSENT on failure: whoever wanted them asks again.
 *
 *	failure of                             consequence
 *	the transport (timeout, 5xx, reset)    source and host left alone for 100 ms .. 2 s, or as
 *	                                       long as the host asked for; a host in trouble is
 *	                                       tried by one or two runs at a time
 *	404, no such layout                    this source can not give the spans that wait now
 *	401, 403 for all we know to say        source left alone for 1 s .. 1 min
 *	bytes that do not decode, or whose     source left alone for 1 s .. 1 min, and only asked
 *	digest is wrong                        where no other can give the span
 *	a fetcher, three times over one span   that source is failed for that span
 *	the write: no room                     what is idle is evicted (space.h) and it is tried
 *	                                       again; in vain: readers are denied with ENOSPC or
 *	                                       EDQUOT; for some seconds nothing but demand is tried
 *	the write: anything else               readers are denied with EIO
 *	fdatasync                              every span not known to be durable is LOST: read
 *	                                       from memory as long as that has it, and read back
 *	                                       from the disk when it is to be filled
 */
struct flight;

enum prio { PRIO_DEMAND = 0, PRIO_AHEAD, PRIO_FILL, PRIO_COUNT };

int flight_new(struct engine *en, struct flight **ret);
/* Ends the workers. Layers and loop must still be there; they are not touched afterwards. */
struct flight *flight_free(struct flight *f);

/* The keeper gave us a fetcher: its socket and its shared buffer (both become owned). */
int flight_add_fetcher(struct flight *f, int sock, int buffer_fd, int32_t pid);

/*
 * Makes sure that spans [first, last] of @l will become present. Present ones are left alone;
 * UNPROVEN ones are checked; a queued one may gain priority.
 */
void flight_want(struct flight *f, struct layer *l, uint32_t first, uint32_t last, enum prio prio);
/* Nobody wants the layer any more (umount): queued spans go back to ABSENT. Running ones end. */
void flight_forget(struct flight *f, struct layer *l);
/* Spans of @l that are queued, running or being checked. */
uint32_t flight_busy(const struct flight *f, const struct layer *l);
/*
 * flight_forget(), then writes down what is DIRTY; @done(ctx, result) runs on the loop when no
 * process and no thread works on @l any more, so that it may be unmounted and freed. @result is
 * 0, or what the last fdatasync said. Until then nobody may want spans of @l.
 */
void flight_drain(struct flight *f, struct layer *l, void (*done)(void *ctx, int result),
		  void *ctx);
/*
 * Starts the check of a layer of which every span is CLEAN against its diff_id, if it is not
 * complete yet. Happens by itself after an fdatasync; for layers that are CLEAN from the start.
 */
void flight_check_complete(struct flight *f, struct layer *l);

/*
 * Starts an fdatasync of @l in a worker now (otherwise one starts about a second after a write);
 * @done(ctx, result) runs on the loop when every span that was DIRTY at the call is CLEAN (0) or
 * was lost (-EIO). May be NULL. When nothing is DIRTY it runs before flight_sync() returns.
 */
void flight_sync(struct flight *f, struct layer *l, void (*done)(void *ctx, int result), void *ctx);

/*
 * May a reader be let at tar bytes [off, off + len), all of which are there? Of what is not CLEAN,
 * the page cache has to hold what we wrote, and go on holding it (law 5). Else false: what was lost
 * has been set UNPROVEN; what cannot be held is made durable, and fault_recheck() called then.
 */
bool flight_hit_ok(struct flight *f, struct layer *l, uint64_t off, uint64_t len);

/*
 * Whoever was told by space_want() to wait: room was made (0), or there is none (@err, -ENOSPC or
 * -EDQUOT), and readers are told.
 */
void flight_room(struct flight *f, int err);

/*
 * What keeps spans [first, last] of @l from being there, in words: the source that fails and what
 * it said last, or how far the first that is missing (*@ret_span) has come.
 */
#define FLIGHT_WHY 512
void flight_why(const struct layer *l, uint32_t first, uint32_t last, uint32_t *ret_span, char *out,
		size_t size);

/*
 * What @source of @l said of the blob: -ENOENT, -EACCES with words (@text), or 0: it has it. Sets
 * layer.vanished, and logs when that changes.
 */
void flight_source_gone(struct layer *l, uint32_t source, int code, const char *text);
/* What status says of a layer whose blob has vanished, in at most FLIGHT_WHY bytes. */
void flight_vanished_words(const struct layer *l, char *out, size_t size);

/* PIDs of the pool, for status. Returns how many were stored. */
uint32_t flight_fetchers(const struct flight *f, int32_t *pids, uint32_t max);
/* Time from a miss to its answer, for status; microseconds over the last 4096 misses. */
void flight_latency(const struct flight *f, uint64_t *p50, uint64_t *p99, uint64_t *max);
void flight_latency_add(struct flight *f, uint64_t ns);

/* --- fetchers outside the pool, for tasks (any thread): fill/oneshot.c --- */

/*
 * A fresh fetcher process for one image or layer: what one image's bytes may have done to it
 * cannot touch another's. Blocking.
 */
struct oneshot;
int oneshot_new(struct engine *en, struct oneshot **ret, struct err *e);
struct oneshot *oneshot_free(struct oneshot *o); /* ends the process */

static inline void oneshot_freep(struct oneshot **o)
{
	oneshot_free(*o);
}

/* The buffer's slot @i (LIMIT_SPAN_MAX bytes), to put input for PARSE jobs. */
void *oneshot_slot(struct oneshot *o, uint32_t i);

/*
 * Runs one job to its end. @fds (borrowed) travel with it. @note is called for every FETCH_SPAN
 * and FETCH_BYTES with a private copy of the bytes (valid during the call); non-zero stops the
 * job and ends the process. @final, when not NULL, gets the FETCH_DONE note.
 */
int oneshot_run(struct oneshot *o, const struct fetch_job *job, const int *fds, int nfds,
		int (*note)(void *ctx, const struct fetch_note *n, const void *data, struct err *e),
		void *ctx, struct fetch_note *final, struct err *e);

#endif
