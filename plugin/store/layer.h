/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_LAYER_H
#define PLUGIN_STORE_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/bytes.h"
#include "oci/erofs/image.h"
#include "oci/index/blobmap.h"
#include "oci/index/index.h"
#include "plugin/fill/wire.h"

struct err;
struct loop_timer;
struct sync_waiter;

/*
 * One mounted layer as the engine knows it. The loop thread owns every field that changes; tasks
 * and workers get what they need by value or as fields marked (const), which never change while
 * the layer lives. A layer lives until its last reference is dropped on the loop thread; before
 * it is freed flight_drain() must have said that nothing works on it any more.
 *
 * A span's states, and who may move it (always on the loop thread):
 *
 *   ABSENT    nothing in the tar counts. → QUEUED on demand, read-ahead or fill
 *   QUEUED    a job for it waits or runs → DIRTY when written, ABSENT when it failed
 *   UNPROVEN  the tar has something there, and the present file does not say that it is durable
 *             → CHECKING on first touch
 *   CHECKING  a worker reads it back from the disk → DIRTY when its digest is right, or when
 *             held pages were right and could be written again; QUEUED when neither
 *   DIRTY     verified and written, not known to be on disk: a hit is allowed only while its pages
 *             are held, and after those asked for have been compared with page_crc[] (law 5)
 *             → CLEAN by a successful fdatasync begun after the write; LOST when one failed, or
 *             UNPROVEN when its pages are not held
 *   LOST      the disk may not have it, the held pages do: a hit as on DIRTY, else → UNPROVEN
 *             → CHECKING when it is to be filled and nobody has been let at it for a while
 *   CLEAN     verified and durable
 *   PARKED    eviction has it: events on it wait → ABSENT when punched, or back to what it was
 */
enum span_state {
	SPAN_ABSENT = 0,
	SPAN_QUEUED,
	SPAN_UNPROVEN,
	SPAN_CHECKING,
	SPAN_DIRTY,
	SPAN_LOST,
	SPAN_CLEAN,
	SPAN_PARKED,
};

/*
 * Before what somebody was let at is read back from the disk, so that what he finds may change:
 * he has copied it by then, on a busy machine too, as no signal stops a reader in the kernel.
 */
#define SPAN_COPIED_MS 3000u

/* Where a QUEUED or CHECKING span stands on its way; flight's own. */
enum span_stage {
	STAGE_NONE = 0,
	STAGE_WAIT, /* in one of layer.queue[] */
	STAGE_RUN,  /* part of a fetcher's job */
	STAGE_WORK, /* with a worker */
};

struct span {
	uint8_t state;       /* enum span_state */
	uint8_t before;      /* PARKED: the state to go back to */
	uint8_t prio;        /* QUEUED, CHECKING: enum prio of flight.h */
	uint8_t stage;       /* QUEUED, CHECKING: enum span_stage */
	uint32_t deaths;     /* fetchers that died over it in a row */
	uint32_t epoch;      /* DIRTY: the layer's sync epoch when it was written */
	uint32_t prev, next; /* STAGE_WAIT: neighbours in the queue, + 1; 0 = none */
	uint32_t refused;    /* bit i: source i cannot give it; until it is written or denied */
	uint32_t poison;     /* bit i: source i is failed for it: fetchers died on the way */
	uint32_t *page_crc;  /* owned; crc32c of each 4 KiB page while DIRTY or LOST, else NULL */
	void *held; /* owned; its pages (pages.h) from DIRTY on, until CLEAN, gone or read back */
	uint64_t wanted_ms;  /* clock_ms() of the last flight_want() on demand */
	uint64_t check_ms;   /* LOST, UNPROVEN: clock_ms() before which it is not read back */
	uint64_t touched_ns; /* last fault that wanted it, or when it came; not before the load */
};

/* The spans of a layer that wait in one queue, oldest first; flight's own. */
struct span_queue {
	uint32_t head, tail, n;    /* span + 1; 0 = none */
	struct layer *prev, *next; /* the ring of layers with spans in this queue; borrowed */
};
#define SPAN_QUEUES 6 /* to be fetched and to be checked, by enum prio */

/* One way to get the compressed blob, in order of preference (local first). */
struct layer_source {
	struct fetch_source at; /* (const) */
	char dir[LIMIT_PATH];   /* local: the layout's directory (const) */
	void *map_bytes;        /* owned; what `map` borrows from (const) */
	struct blobmap *map;    /* owned; the map of this blob (const) */
	bool opened;            /* local: fd is the blob, owned */
	bool opening;           /* local: a worker asks the keeper for it */
	int fd;
	bool bad;               /* gave wrong bytes: asked only where no other helps */
	uint32_t wrong;         /* how many times in a row */
	uint32_t fails;         /* in a row, of any kind */
	int gone;               /* what it last said of the blob: -ENOENT, -EACCES, or 0 */
	uint64_t not_before_ms; /* backoff: clock_ms() before which it is not asked */
	char last_error[256];
};

struct layer {
	struct digest diff_id, scope; /* (const) scope zero: proved */
	uint32_t refs;
	int fd_fill;               /* owned; O_RDWR on the tar, opened before the mark (const) */
	int fd_image;              /* owned (const) */
	uint64_t tar_dev, tar_ino; /* (const) */
	uint64_t fs_dev;           /* (const) */
	void *index_bytes;         /* owned; what `index` borrows from (const) */
	size_t index_len;
	struct index index;           /* (const) */
	struct extents extents;       /* owned; from the mounted image (const) */
	struct layer_source *sources; /* owned array */
	uint32_t nsources;
	bool vanished; /* no source has the blob any more: what is not here cannot be had */

	struct span *spans;               /* owned; index.nspans of them */
	uint32_t ndirty, nclean, nabsent; /* counts, kept by span_set() */
	uint32_t nbusy;                   /* spans QUEUED or CHECKING, likewise */
	uint64_t changes;                 /* counts changes of any span's state, likewise */
	uint32_t epoch;                   /* counts fdatasyncs begun */
	uint32_t sync_failures;           /* counts those that failed */
	bool syncing;                     /* one is running in a worker */
	bool sync_again;                  /* another one is wanted as soon as that one is done */
	bool sync_awaited;                /* somebody reads what is DIRTY and not held */
	struct flight *flight;            /* borrowed; once something was written; flight's own */
	struct loop_timer *sync_timer;    /* owned by the loop; flight's own */
	struct sync_waiter *sync_waiters; /* owned; flight's own */
	struct span_queue queue[SPAN_QUEUES]; /* flight's own */
	uint32_t inflight;    /* runs and worker jobs that hold a pointer to the layer */
	bool complete;        /* every span CLEAN and sha256(tar) == diff_id checked */
	bool checking;        /* that check is running in a worker */
	bool marked;          /* content mark is on */
	uint32_t exec_marked; /* KEEP_MARK_* now on */
	bool evicting;        /* an eviction task works on it */
	bool quarantined;
	bool unmounting;          /* the keeper was asked to unmount it, and could not yet */
	uint64_t last_sequential; /* read-ahead: where the next sequential fault would begin */
	struct layer *next;       /* list of all */
	struct layer *next_tar, *next_fs; /* the engine's lists by tar and by file system */
};

/*
 * The single place that changes a span's state; keeps the counters. To PARKED remembers the state
 * it had; leaving DIRTY and LOST (and PARKED from them) for anything else frees page_crc. Before a
 * span is set DIRTY its page_crc must be there; the epoch is set here, except when it comes back
 * from PARKED.
 */
void span_set(struct layer *l, uint32_t span, enum span_state state);

/*
 * Makes l->spans for l->index.nspans spans, all ABSENT, and the counters. -ENOMEM. With
 * layer_spans_free() (NULL-safe) and span_set() all there is to know about the array.
 */
int layer_spans_new(struct layer *l);
void layer_spans_free(struct layer *l);

/* What is there of it is not to be trusted: UNPROVEN, and read back when nobody can be at it. */
void span_distrust(struct layer *l, uint32_t span);

static inline bool span_present(const struct span *s)
{
	return s->state == SPAN_CLEAN || s->state == SPAN_DIRTY || s->state == SPAN_LOST;
}

/* Does the tar have something there that may go? */
static inline bool span_kept(const struct span *s)
{
	return span_present(s) || s->state == SPAN_UNPROVEN;
}

/* Spans that overlap tar bytes [off, off + len), rounded out to whole spans; last is inclusive. */
void layer_spans_of(const struct layer *l, uint64_t off, uint64_t len, uint32_t *ret_first,
		    uint32_t *ret_last);

/*
 * The size of the file that holds a layer's tar. EROFS reads whole blocks, also the last one of a
 * tar that ends without its padding (as umoci insert leaves it).
 */
static inline uint64_t layer_file_size(uint64_t tar_size)
{
	return round_up(tar_size, 512);
}

struct layer *layer_free(struct layer *l);

#endif
