/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_LAYER_H
#define PLUGIN_STORE_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/erofs/image.h"
#include "oci/index/blobmap.h"
#include "oci/index/index.h"
#include "plugin/fill/wire.h"

struct err;

/*
 * One mounted layer as the engine knows it. The loop thread owns every field that changes; tasks
 * and workers get what they need by value or as fields marked (const), which never change while
 * the layer lives. A layer lives until its last reference is dropped on the loop thread.
 *
 * A span's states, and who may move it (always on the loop thread):
 *
 *   ABSENT    nothing in the tar counts. → QUEUED on demand, read-ahead or fill
 *   QUEUED    a job for it waits or runs → DIRTY when written, ABSENT when it failed
 *   UNPROVEN  the present file of an unclean stop says it is there → CHECKING on first touch
 *   CHECKING  a worker reads it back → DIRTY when its digest is right, ABSENT when not
 *   DIRTY     verified and written, not known to be on disk: a hit is allowed only after the
 *             pages asked for have been compared with page_crc[] (law 5)
 *             → CLEAN by a successful fdatasync begun after the write; ABSENT when one failed
 *   CLEAN     verified and durable
 *   PARKED    eviction has it: events on it wait → ABSENT when punched, or back to what it was
 */
enum span_state {
	SPAN_ABSENT = 0,
	SPAN_QUEUED,
	SPAN_UNPROVEN,
	SPAN_CHECKING,
	SPAN_DIRTY,
	SPAN_CLEAN,
	SPAN_PARKED,
};

struct span {
	uint8_t state;      /* enum span_state */
	uint8_t before;     /* PARKED: the state to go back to */
	uint8_t prio;       /* QUEUED: enum prio of flight.h */
	uint8_t fails;      /* failures in a row, for the backoff */
	uint32_t epoch;     /* DIRTY: the layer's sync epoch when it was written */
	uint32_t *page_crc; /* owned; crc32c of each 4 KiB page while DIRTY, else NULL */
	uint64_t touched_ns;/* last fault that wanted it */
};

/* One way to get the compressed blob, in order of preference (local first). */
struct layer_source {
	struct fetch_source at;   /* (const) */
	char dir[LIMIT_PATH];     /* local: the layout's directory (const) */
	struct blobmap *map;      /* owned; the map of this blob (const) */
	bool bad;                 /* gave wrong bytes: not asked again until a reload */
	uint32_t fails;           /* in a row */
	uint64_t not_before_ms;   /* backoff: clock_ms() before which it is not asked */
	char last_error[256];
};

struct layer {
	struct digest diff_id, scope;   /* (const) scope zero: proved */
	uint32_t refs;
	int fd_fill;                    /* owned; O_RDWR on the tar, opened before the mark (const) */
	int fd_image;                   /* owned (const) */
	uint64_t tar_dev, tar_ino;      /* (const) */
	uint64_t fs_dev;                /* (const) */
	void *index_bytes;              /* owned; what `index` borrows from (const) */
	size_t index_len;
	struct index index;             /* (const) */
	struct extents extents;         /* owned; from the mounted image (const) */
	struct layer_source *sources;   /* owned array */
	uint32_t nsources;

	struct span *spans;             /* owned; index.nspans of them */
	uint32_t ndirty, nclean, nabsent; /* counts, kept by span_set() */
	uint32_t epoch;                 /* counts fdatasyncs begun */
	bool syncing;                   /* one is running in a worker */
	bool complete;                  /* every span CLEAN and sha256(tar) == diff_id checked */
	bool checking;                  /* that check is running in a worker */
	bool marked;                    /* content mark is on */
	uint32_t exec_marked;           /* KEEP_MARK_* now on */
	bool evicting;                  /* an eviction task works on it */
	bool quarantined;
	uint64_t last_sequential;       /* read-ahead: where the next sequential fault would begin */
	struct layer *next;             /* list of all */
};

/* The single place that changes a span's state; keeps the counters. */
void span_set(struct layer *l, uint32_t span, enum span_state state);

static inline bool span_present(const struct span *s)
{
	return s->state == SPAN_CLEAN || s->state == SPAN_DIRTY;
}

/* Spans that overlap tar bytes [off, off + len), rounded out to whole spans; last is inclusive. */
void layer_spans_of(const struct layer *l, uint64_t off, uint64_t len, uint32_t *ret_first,
		    uint32_t *ret_last);

struct layer *layer_free(struct layer *l);

#endif
