/* SPDX-License-Identifier: Apache-2.0 */
/* Evicting some spans at a time: parked, proved idle, punched out. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/keep.h"
#include "plugin/loop.h"
#include "plugin/store/evict_impl.h"
#include "plugin/store/layer.h"
#include "plugin/store/pages.h"
#include "plugin/store/pins.h"

#ifdef TARN_TEST_NO_PROOF
/* The control of the eviction test: it must see wrong bytes without a proof. */
#define PROOF false
#else
#define PROOF true
#endif

#define UNIT 4096 /* what the kernel rounds a read of the tar out to */

static bool evictable(const struct work *w, uint32_t span)
{
	const struct span *s = &w->l->spans[span];

	/* DIRTY spans were synced before; one that is DIRTY now is being used. */
	if (!span_kept(s) || s->state == SPAN_DIRTY)
		return false;
	if (w->want->cold_ns && clock_ns() - s->touched_ns < w->want->cold_ns)
		return false;
	return !pins_span(w->l, span);
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
	return round_down(x->tar_off, UNIT) < end && round_up(x->tar_off + x->size, UNIT) > start;
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
int evict_park(void *ctx)
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

int evict_batch_done(void *ctx)
{
	unpark(ctx, false);
	return 0;
}

int evict_batch_undo(void *ctx)
{
	unpark(ctx, true);
	return 0;
}

/* --- in the task --- */

/* Write leases on all files of the batch, KEEP_LEASE_MAX at a time. */
int evict_ask_leases(struct work *w, struct err *e)
{
	_cleanup_free_ struct keep_request *req = calloc(1, sizeof(*req));
	_cleanup_free_ struct keep_reply *rep = calloc(1, sizeof(*rep));
	bool *lease = reallocarray(w->lease, w->nids.n + 1, sizeof(*lease));

	if (lease)
		w->lease = lease;
	if (!PROOF)
		return 0;
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
		w->done.shared |= rep->lease.shared != 0;
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

/* Punches what was granted out of the tar. */
void evict_punch(struct work *w)
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
			(void)pages_punch(w->l->fd_fill, start, (size_t)len);
	}
	after = fd_resident(w->l->fd_fill);
	if (before > after && after >= 0)
		w->done.freed += (uint64_t)(before - after);
}
