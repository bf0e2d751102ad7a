/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/load.h"
#include "plugin/store/pages.h"
#include "plugin/store/present.h"

/* What was written together is made durable together. */
#define SYNC_DELAY_MS 1000u
/* Who was let at content has copied it by then, on a busy machine too: no signal stops it there. */
#define COPIED_MS 3000u

/* Waits for the fdatasync with number @epoch, or a later one. */
struct sync_waiter {
	uint32_t epoch;
	void (*done)(void *ctx, int result);
	void *ctx;
	struct sync_waiter *next;
};

struct sync_work {
	struct work w;
	struct flight *f; /* borrowed */
	struct layer *l;  /* borrowed, counted */
	int fd;           /* borrowed; opened before everything that is written through it */
	uint32_t epoch;
	int result;
};

/* #syscalls engine: fdatasync */
static void sync_run(struct work *w, void *scratch)
{
	struct sync_work *s = (struct sync_work *)w;

	s->result = fdatasync(s->fd) < 0 ? -errno : 0;
}

/* Spans written after the fdatasync began wait for the next one. True: there are some. */
static bool sync_good(struct layer *l, uint32_t epoch)
{
	bool left = false;

	for (uint32_t i = 0; i < l->index.nspans; i++) {
		struct span *s = &l->spans[i];
		bool parked = s->state == SPAN_PARKED && s->before == SPAN_DIRTY;

		if (s->state != SPAN_DIRTY && !parked)
			continue;
		if ((int32_t)(epoch - s->epoch) <= 0)
			left = true;
		else if (parked)
			s->before = SPAN_CLEAN;
		else
			span_set(l, i, SPAN_CLEAN);
	}
	return left;
}

/*
 * The disk may not have it. Its pages are right as long as they are held, and they stay for who was
 * let at them; then it can be seen what the disk has.
 */
static void span_lost(struct layer *l, uint32_t span)
{
	struct span *s = &l->spans[span];
	enum span_state state = s->held ? SPAN_LOST : SPAN_UNPROVEN;

	if (s->state == SPAN_PARKED)
		s->before = (uint8_t)state;
	else
		span_set(l, span, state);
	s->check_ms = s->held ? clock_ms() + COPIED_MS : 0;
}

/*
 * Which pages were lost nobody says, and the kernel reports it once: whatever is not known to be
 * durable may be gone (law 5). What workers are writing now is told by sync_failures.
 */
static void sync_lost(struct layer *l)
{
	for (uint32_t i = 0; i < l->index.nspans; i++) {
		const struct span *s = &l->spans[i];

		if (s->state == SPAN_DIRTY || (s->state == SPAN_PARKED && s->before == SPAN_DIRTY))
			span_lost(l, i);
	}
	l->sync_failures++;
}

static void tell_waiters(struct layer *l, uint32_t epoch, int result)
{
	struct sync_waiter **at = &l->sync_waiters, *ready = NULL;

	while (*at) {
		struct sync_waiter *w = *at;

		if (result == 0 && (int32_t)(epoch - w->epoch) < 0) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		w->next = ready;
		ready = w;
	}
	while (ready) {
		struct sync_waiter *w = ready;

		ready = w->next;
		w->done(w->ctx, result);
		free(w);
	}
}

static void sync_done(struct work *w)
{
	_cleanup_free_ struct sync_work *s = (struct sync_work *)w;
	struct flight *f = s->f;
	struct layer *l = s->l;
	char name[LAYER_NAME];
	bool left = false;

	l->syncing = false;
	if (f->closing) {
		flight_let_go(f, l);
		return;
	}
	if (s->result == 0) {
		left = sync_good(l, s->epoch);
		present_synced(f->en, l);
	} else {
		log_error("%s: fdatasync: %s; the disk may not have what was not yet durable",
			  layer_name(l, name), err_words(s->result));
		sync_lost(l);
		fault_recheck(f->en, l, 0, l->index.nspans - 1);
	}
	tell_waiters(l, s->epoch, s->result == 0 ? 0 : -EIO);
	if (l->sync_awaited) {
		l->sync_awaited = false;
		fault_recheck(f->en, l, 0, l->index.nspans - 1);
	}
	if (l->sync_again && l->sync_waiters)
		sync_start(f, l);
	else if (left)
		sync_arm(f, l);
	flight_check_complete(f, l);
	flight_let_go(f, l);
}

void sync_start(struct flight *f, struct layer *l)
{
	struct sync_work *s;

	if (l->syncing) {
		l->sync_again = true;
		return;
	}
	if (l->sync_timer)
		loop_cancel(l->sync_timer);
	l->sync_timer = NULL;
	s = calloc(1, sizeof(*s));
	if (!s) {
		sync_arm(f, l);
		return;
	}
	s->w = (struct work){.run = sync_run, .done = sync_done};
	s->f = f;
	s->l = l;
	s->fd = l->fd_fill;
	s->epoch = ++l->epoch;
	l->sync_again = false;
	l->syncing = true;
	l->inflight++;
	workers_submit(f->workers, &s->w, WORK_SYNC);
}

static void sync_due(void *ctx)
{
	struct layer *l = ctx;

	l->sync_timer = NULL;
	sync_start(l->flight, l);
}

void sync_arm(struct flight *f, struct layer *l)
{
	l->flight = f;
	if (!l->sync_timer &&
	    loop_after(f->en->loop, SYNC_DELAY_MS, sync_due, l, &l->sync_timer) < 0)
		l->sync_timer = NULL;
}

void flight_sync(struct flight *f, struct layer *l, void (*done)(void *ctx, int result), void *ctx)
{
	struct sync_waiter *w;

	if (l->ndirty == 0 || !done) {
		if (l->ndirty > 0)
			sync_start(f, l);
		if (done)
			done(ctx, 0);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w) {
		done(ctx, -ENOMEM);
		return;
	}
	*w = (struct sync_waiter){
		.epoch = l->epoch + 1, .done = done, .ctx = ctx, .next = l->sync_waiters};
	l->sync_waiters = w;
	sync_start(f, l);
}

/* --- is the tar the layer? --- */

struct whole_work {
	struct work w;
	struct flight *f; /* borrowed */
	struct layer *l;  /* borrowed, counted */
	int fd;           /* borrowed */
	uint64_t size;
	struct digest want;
	uint64_t changes; /* layer->changes when it began */
	int result;
};

/* EROFS keeps its own pages; the tar's would only be kept twice (they are clean by now). */
static int sum_tar(struct whole_work *c, void *scratch, struct hasher *h, struct digest *ret)
{
	for (uint64_t off = 0; off < c->size; off += WORKER_SCRATCH) {
		uint64_t left = c->size - off;
		size_t n = left < WORKER_SCRATCH ? (size_t)left : WORKER_SCRATCH;
		int r = fd_pread_full(c->fd, scratch, n, off);

		if (r == 0)
			r = hasher_update(h, scratch, n);
		if (r < 0)
			return r;
		/* #syscalls engine: fadvise64 */
		(void)posix_fadvise(c->fd, (off_t)off, (off_t)n, POSIX_FADV_DONTNEED);
	}
	return hasher_final(h, ret);
}

static void whole_run(struct work *w, void *scratch)
{
	struct whole_work *c = (struct whole_work *)w;
	_cleanup_(hasher_freep) struct hasher *h = hasher_new();
	struct digest is;

	c->result = h ? sum_tar(c, scratch, h, &is) : -ENOMEM;
	if (c->result == 0 && !digest_equal(&is, &c->want))
		c->result = -EBADMSG;
}

static void whole_done(struct work *w)
{
	_cleanup_free_ struct whole_work *c = (struct whole_work *)w;
	struct flight *f = c->f;
	struct layer *l = c->l;
	char name[LAYER_NAME];

	l->checking = false;
	if (f->closing) {
		;
	} else if (c->changes != l->changes) {
		/* Spans went or came while it was read: the sum says nothing. */
		flight_check_complete(f, l);
	} else if (c->result == 0) {
		l->complete = true;
		layer_completed(f->en, l);
	} else if (c->result == -EBADMSG) {
		l->quarantined = true;
		log_error("%s: every span is right, yet the whole is not the layer that was "
			  "promised; it is not used any more",
			  layer_name(l, name));
	} else {
		log_warn("%s: cannot read it whole: %s", layer_name(l, name), err_words(c->result));
	}
	flight_let_go(f, l);
}

void flight_check_complete(struct flight *f, struct layer *l)
{
	struct whole_work *c;

	if (l->nclean != l->index.nspans || l->complete || l->checking || l->quarantined ||
	    l->evicting || flight_draining(f, l))
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->w = (struct work){.run = whole_run, .done = whole_done};
	c->f = f;
	c->l = l;
	c->fd = l->fd_fill;
	c->size = l->index.tar_size;
	c->want = l->index.diff_id;
	c->changes = l->changes;
	l->checking = true;
	l->inflight++;
	workers_submit(f->workers, &c->w, WORK_WHOLE);
}

/* --- hits on what may yet be lost --- */

static bool pages_ok(struct flight *f, const struct layer *l, uint32_t span, uint64_t off,
		     uint64_t end)
{
	const uint32_t *crc = l->spans[span].page_crc;
	uint64_t start = index_span_start(&l->index, span);

	while (off < end) {
		size_t n = end - off < HIT_CHUNK ? (size_t)(end - off) : HIT_CHUNK;

		if (fd_pread_full(l->fd_fill, f->page, n, off) < 0)
			return false;
		for (size_t at = 0; at < n; at += PAGE_BYTES) {
			size_t len = n - at < PAGE_BYTES ? n - at : PAGE_BYTES;

			if (page_crc(f->page + at, len) != crc[(off + at - start) / PAGE_BYTES])
				return false;
		}
		off += n;
	}
	return true;
}

bool flight_hit_ok(struct flight *f, struct layer *l, uint64_t off, uint64_t len)
{
	uint64_t from = round_down(off, PAGE_BYTES), to;
	uint32_t first, last;
	bool ok = true;

	if (!add_ok(off, len, &to) || to > l->index.tar_size)
		to = l->index.tar_size;
	else
		to = round_up(to, PAGE_BYTES);
	layer_spans_of(l, off, len, &first, &last);
	for (uint32_t i = first; i <= last && i < l->index.nspans; i++) {
		struct span *sp = &l->spans[i];
		uint64_t start = index_span_start(&l->index, i);
		uint64_t end = start + index_span_len(&l->index, i);
		char name[LAYER_NAME];

		if (sp->state != SPAN_DIRTY && sp->state != SPAN_LOST)
			continue;
		if (!sp->held) {
			l->sync_awaited = true;
			ok = false;
			continue;
		}
		if (sp->state == SPAN_LOST)
			sp->check_ms = clock_ms() + COPIED_MS;
		if (pages_ok(f, l, i, from > start ? from : start, to < end ? to : end))
			continue;
		log_warn("%s span %" PRIu32 ": pages were lost before they were durable",
			 layer_name(l, name), i);
		sp->check_ms = clock_ms() + COPIED_MS;
		span_set(l, i, SPAN_UNPROVEN);
		ok = false;
	}
	if (l->sync_awaited)
		sync_start(f, l);
	return ok;
}
