/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/evict.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "plugin/loop.h"
#include "plugin/store/claim.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"

#define BATCH_SPANS 8    /* parked at a time: readers of them wait for one round of leases */
#define UNIT        4096 /* what the kernel rounds a read of the tar out to */

#ifdef TARN_TEST_NO_PROOF
#define PROOF false /* the control of the eviction test: it must see wrong bytes without a proof */
#else
#define PROOF true
#endif

struct nids {
	uint64_t *v; /* owned; sorted and distinct */
	size_t n, cap;
};

/* One eviction of one mounted layer. */
struct work {
	struct engine *en;  /* borrowed */
	const struct evict_want *want;
	struct digest diff_id, scope;
	struct layer *l;    /* a reference is held */
	bool was_complete;
	uint32_t cursor;    /* the next span to look at */
	uint32_t batch[BATCH_SPANS];
	bool granted[BATCH_SPANS];
	uint32_t nbatch;
	struct nids nids;   /* files that overlap the batch */
	bool *lease;        /* owned; by nids */
	struct evicted done;
};

/* --- on the loop --- */

static int begin(void *ctx)
{
	struct work *w = ctx;
	struct layer *l = engine_layer(w->en, &w->diff_id, &w->scope);

	if (!l || l->unmounting)
		return -ENOENT;
	if (l->evicting)
		return -EBUSY;
	l->evicting = true;
	l->refs++;
	w->l = l;
	w->was_complete = l->complete;
	return 0;
}

static int marks_on(void *ctx)
{
	struct work *w = ctx;

	/* From here on every read raises an event; it is not complete once something is gone. */
	w->l->marked = true;
	w->l->exec_marked = KEEP_MARK_EXEC | (w->want->deny ? KEEP_MARK_OPEN : 0);
	w->l->complete = false;
	return 0;
}

static int end(void *ctx)
{
	struct work *w = ctx;
	struct layer *l = w->l;

	l->evicting = false;
	l->exec_marked = KEEP_MARK_EXEC;
	if (l->nclean == l->index.nspans) {
		if (w->was_complete && w->done.freed == 0)
			layer_completed(w->en, l);
		else
			flight_check_complete(w->en->flight, l);
	}
	return 0;
}

static bool evictable(const struct work *w, uint32_t span)
{
	const struct span *s = &w->l->spans[span];

	/* DIRTY spans were synced before; one that is DIRTY now is being used. */
	if (s->state != SPAN_CLEAN && s->state != SPAN_UNPROVEN)
		return false;
	if (w->want->cold_ns && clock_ns() - s->touched_ns < w->want->cold_ns)
		return false;
	return !w->want->pinned || !w->want->pinned(w->want->ctx, w->l, span);
}

static int nids_add(struct nids *ns, uint64_t nid)
{
	if (ns->n == ns->cap) {
		size_t cap = ns->cap ? 2 * ns->cap : 256;
		uint64_t *v = reallocarray(ns->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM;
		ns->v = v;
		ns->cap = cap;
	}
	ns->v[ns->n++] = nid;
	return 0;
}

/* Where files begin that overlap a span, extents rounded out to whole pages. */
static size_t first_in(const struct layer *l, uint32_t span, uint64_t *ret_end)
{
	uint64_t start = index_span_start(&l->index, span);

	*ret_end = start + index_span_len(&l->index, span);
	return extents_first(&l->extents, start >= UNIT ? start - UNIT + 1 : 0);
}

static bool touches(const struct extent *x, uint64_t start, uint64_t end)
{
	return round_down(x->tar_off, UNIT) < end &&
	       round_up(x->tar_off + x->size, UNIT) > start;
}

static int add_files(struct work *w, uint32_t span)
{
	const struct extents *xs = &w->l->extents;
	uint64_t end, start = index_span_start(&w->l->index, span);
	int r = 0;

	for (size_t i = first_in(w->l, span, &end);
	     r == 0 && i < xs->n && round_down(xs->v[i].tar_off, UNIT) < end; i++)
		if (touches(&xs->v[i], start, end))
			r = nids_add(&w->nids, xs->v[i].nid);
	return r;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void nids_sort(struct nids *ns)
{
	size_t n = 0;

	if (ns->n == 0)
		return;
	qsort(ns->v, ns->n, sizeof(ns->v[0]), by_value);
	for (size_t i = 1; i < ns->n; i++)
		if (ns->v[i] != ns->v[n])
			ns->v[++n] = ns->v[i];
	ns->n = n + 1;
}

/* Parks the next spans. Returns how many. */
static int park(void *ctx)
{
	struct work *w = ctx;
	struct layer *l = w->l;

	w->nbatch = 0;
	w->nids.n = 0;
	for (; w->cursor < l->index.nspans && w->nbatch < BATCH_SPANS; w->cursor++) {
		if (!evictable(w, w->cursor))
			continue;
		if (add_files(w, w->cursor) < 0)
			return -ENOMEM;
		w->batch[w->nbatch++] = w->cursor;
	}
	nids_sort(&w->nids);
	for (uint32_t i = 0; PROOF && i < w->nbatch; i++)
		span_set(l, w->batch[i], SPAN_PARKED);
	if (w->want->deny)
		fault_busy_set(w->en, l, w->nids.v, w->nids.n, w->want->wait);
	return (int)w->nbatch;
}

static void unpark(struct work *w, bool all_back)
{
	struct layer *l = w->l;

	if (w->want->deny)
		fault_busy_set(w->en, l, NULL, 0, false);
	for (uint32_t i = 0; i < w->nbatch; i++) {
		struct span *s = &l->spans[w->batch[i]];

		if (w->granted[i] && !all_back)
			span_set(l, w->batch[i], SPAN_ABSENT);
		else if (s->state == SPAN_PARKED)
			span_set(l, w->batch[i], s->before);
		fault_recheck(w->en, l, w->batch[i], w->batch[i]);
	}
}

static int batch_done(void *ctx)
{
	unpark(ctx, false);
	return 0;
}

static int batch_undo(void *ctx)
{
	unpark(ctx, true);
	return 0;
}

/* --- in the task --- */

static int ask_mark(struct work *w, enum keep_op op, uint32_t on, uint32_t flags, struct err *e)
{
	struct keep_request req = {
		.op = op,
		.layer = { .diff_id = w->diff_id, .scope = w->scope, .on = on, .flags = flags },
	};
	struct keep_reply rep;

	return keep_call(w->en->keep, &req, &rep, NULL, 0, e);
}

/* Write leases on all files of the batch, KEEP_LEASE_MAX at a time. */
static int ask_leases(struct work *w, struct err *e)
{
	_cleanup_free_ struct keep_request *req = calloc(1, sizeof(*req));
	_cleanup_free_ struct keep_reply *rep = calloc(1, sizeof(*rep));
	bool *lease = reallocarray(w->lease, w->nids.n + 1, sizeof(*lease));

	if (lease)
		w->lease = lease;
	if (!req || !rep || !lease)
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t at = 0; at < w->nids.n; at += req->lease.n) {
		size_t left = w->nids.n - at;
		int r;

		req->op = KEEP_LEASE;
		req->lease.diff_id = w->diff_id;
		req->lease.scope = w->scope;
		req->lease.n = left < KEEP_LEASE_MAX ? (uint32_t)left : KEEP_LEASE_MAX;
		memcpy(req->lease.nid, w->nids.v + at, req->lease.n * sizeof(uint64_t));
		r = keep_call(w->en->keep, req, rep, NULL, 0, e);
		if (r < 0)
			return r;
		for (uint32_t i = 0; i < req->lease.n; i++)
			lease[at + i] = rep->lease.granted[i] == 1;
	}
	return 0;
}

static bool all_granted(const struct work *w, uint32_t span)
{
	const struct extents *xs = &w->l->extents;
	uint64_t end, start = index_span_start(&w->l->index, span);

	if (!PROOF)
		return true;
	for (size_t i = first_in(w->l, span, &end);
	     i < xs->n && round_down(xs->v[i].tar_off, UNIT) < end; i++) {
		const uint64_t *nid;

		if (!touches(&xs->v[i], start, end))
			continue;
		nid = bsearch(&xs->v[i].nid, w->nids.v, w->nids.n, sizeof(*nid), by_value);
		if (!nid || !w->lease[nid - w->nids.v])
			return false;
	}
	return true;
}

/* Punches what was granted out of the tar. The last span's end is the file's: round out. */
static void punch(struct work *w)
{
	int64_t before = fd_resident(w->l->fd_fill), after;

	for (uint32_t i = 0; i < w->nbatch; i++) {
		uint64_t start = index_span_start(&w->l->index, w->batch[i]);
		uint64_t len = index_span_len(&w->l->index, w->batch[i]);

		w->granted[i] = all_granted(w, w->batch[i]);
		if (!w->granted[i])
			w->done.kept_in_use += len;
		else
			/* A failure leaves bytes that nobody will trust any more. */
			(void)fallocate(w->l->fd_fill, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)start, (off_t)round_up(len, UNIT));
	}
	after = fd_resident(w->l->fd_fill);
	if (before > after && after >= 0)
		w->done.freed += (uint64_t)(before - after);
}

static bool stop_here(const struct work *w)
{
	return w->done.freed >= w->want->free ||
	       (w->want->cancelled && w->want->cancelled(w->want->ctx));
}

static int batches(struct work *w, struct err *e)
{
	while (!stop_here(w)) {
		int r = loop_call(w->en->loop, park, w);

		if (r <= 0)
			return r < 0 ? err_errno(e, r, "evicting") : 0;
		r = PROOF ? ask_leases(w, e) : 0;
		if (r < 0) {
			loop_call(w->en->loop, batch_undo, w);
			return r;
		}
		punch(w);
		loop_call(w->en->loop, batch_done, w);
	}
	return 0;
}

struct sync {
	struct work *w;
	sem_t done;
};

static void synced(void *ctx, int result)
{
	struct sync *s = ctx;

	sem_post(&s->done); /* what could not be synced is ABSENT now, and not evicted */
}

static int start_sync(void *ctx)
{
	struct sync *s = ctx;

	flight_sync(s->w->en->flight, s->w->l, synced, s);
	return 0;
}

/* Spans that were written just now become CLEAN, so that they can go as well. */
static void sync_first(struct work *w)
{
	struct sync s = { .w = w };

	sem_init(&s.done, 0, 0);
	if (loop_call(w->en->loop, start_sync, &s) == 0)
		while (sem_wait(&s.done) < 0 && errno == EINTR)
			;
	sem_destroy(&s.done);
}

static int evict_mounted(struct work *w, struct err *e)
{
	uint32_t flags = KEEP_MARK_EXEC | (w->want->deny ? KEEP_MARK_OPEN : 0);
	int r;

	sync_first(w);
	r = ask_mark(w, KEEP_MARK, 1, 0, e);
	if (r == 0)
		r = ask_mark(w, KEEP_EXEC_MARK, 0, flags, e);
	if (r == 0) {
		loop_call(w->en->loop, marks_on, w);
		r = batches(w, e);
		if (w->want->deny)
			ask_mark(w, KEEP_EXEC_MARK, 0, KEEP_MARK_EXEC, NULL);
	}
	loop_call(w->en->loop, end, w);
	layer_umount(w->en, w->l);
	return r;
}

/* --- a layer that is not mounted: the whole tar at once --- */

static int drop_content(struct engine *en, const struct keep_file *tar, uint64_t size,
			struct err *e)
{
	_cleanup_fd_ int fd = -1;
	int r = file_create(en, tar, &fd, e);

	if (r == 0 && ftruncate(fd, (off_t)size) < 0)
		r = err_errno(e, -errno, "an empty tar");
	if (r == 0)
		r = file_publish(en, tar, e);
	return r;
}

/* A read of the tar is not seen while it is not mounted; writing it is, and its last mount is. */
static bool used_within(int fd, uint64_t ns)
{
	struct timespec now;
	struct stat st;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	if (fstat(fd, &st) < 0)
		return true;
	age = now.tv_sec - (st.st_ctim.tv_sec > st.st_atim.tv_sec ? st.st_ctim.tv_sec
								  : st.st_atim.tv_sec);
	return age < 0 || (uint64_t)age < ns / 1000000000;
}

static int evict_unmounted(struct engine *en, const struct digest *diff_id,
			   const struct digest *scope, const struct evict_want *want,
			   struct evicted *ret, struct err *e)
{
	const struct keep_file present = file_of_layer(KEEP_PRESENT, diff_id, scope);
	const struct keep_file tar = file_of_layer(KEEP_TAR, diff_id, scope);
	_cleanup_claim_ struct claim claim = CLAIM_INIT;
	_cleanup_fd_ int fd = -1;
	int64_t resident;
	off_t size;
	int r = claim_take(&claim, CLAIM_MOUNT, diff_id, NULL, NULL);

	if (r == 0)
		r = file_open(en, &tar, &fd, e);
	if (r < 0)
		return r;
	resident = fd_resident(fd);
	size = lseek(fd, 0, SEEK_END);
	if (resident <= 0 || size < 0 || used_within(fd, want->cold_ns))
		return 0;
	/* First nothing is claimed to be there any more, then it goes. */
	r = file_drop(en, &present, e);
	if (r == 0)
		r = drop_content(en, &tar, (uint64_t)size, e);
	if (r == 0)
		ret->freed += (uint64_t)resident;
	return r;
}

int evict_layer(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		const struct evict_want *want, struct evicted *ret, struct err *e)
{
	struct work w = { .en = en, .want = want, .diff_id = *diff_id, .scope = *scope };
	int r;

	*ret = (struct evicted){ 0 };
	r = loop_call(en->loop, begin, &w);
	if (r == -ENOENT)
		return evict_unmounted(en, diff_id, scope, want, ret, e);
	if (r < 0)
		return err_set(e, r, "the layer is being evicted already");
	r = evict_mounted(&w, e);
	free(w.nids.v);
	free(w.lease);
	*ret = w.done;
	return r;
}
