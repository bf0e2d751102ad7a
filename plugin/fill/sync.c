/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/pages.h"
#include "plugin/store/present.h"

/* What was written together is made durable together. */
#define SYNC_DELAY_MS 1000u

/* Waits for the fdatasync with number @epoch, or a later one. */
struct sync_waiter {
	uint32_t epoch;
	void (*done)(void *ctx, int result);
	void *ctx;
	struct sync_waiter *next;
};

/* A span that was DIRTY when the fdatasync began. */
struct synced {
	uint64_t off;
	const uint32_t *crc; /* into sync_work.crc */
	uint32_t span, len;
	bool wrong;
};

struct sync_work {
	struct work w;
	struct flight *f; /* borrowed */
	struct layer *l;  /* borrowed, counted */
	int fd;           /* borrowed; opened before everything that is written through it */
	uint32_t epoch;
	int result;
	struct synced *v; /* owned, n */
	uint32_t n;
	uint32_t *crc; /* owned */
};

static struct sync_work *sync_work_free(struct sync_work *s)
{
	if (!s)
		return NULL;
	free(s->v);
	free(s->crc);
	free(s);
	return NULL;
}

static void sync_work_freep(struct sync_work **s)
{
	sync_work_free(*s);
}

/*
 * ext4 that finds no room at write-back throws pages away, held or not, and not every fdatasync
 * says so (fs/ext4/inode.c, mpage_release_unused_pages()).
 * #syscalls engine: fdatasync
 */
static void sync_run(struct work *w, void *scratch)
{
	struct sync_work *s = (struct sync_work *)w;

	s->result = fdatasync(s->fd) < 0 ? -errno : 0;
	for (uint32_t i = 0; s->result == 0 && i < s->n; i++)
		s->v[i].wrong = !pages_are(s->fd, s->v[i].off, s->v[i].len, s->v[i].crc, false);
}

static bool is_dirty(const struct span *s)
{
	return s->state == SPAN_DIRTY || (s->state == SPAN_PARKED && s->before == SPAN_DIRTY);
}

/* What sync_run() looks at while the loop goes on: what is DIRTY now. -ENOMEM. */
static int sync_note(struct sync_work *s)
{
	const struct layer *l = s->l;
	uint32_t n = 0, pages = 0;

	for (uint32_t i = 0; i < l->index.nspans; i++) {
		if (!is_dirty(&l->spans[i]))
			continue;
		n++;
		pages += pages_count(index_span_len(&l->index, i));
	}
	s->v = calloc(n + 1, sizeof(*s->v));
	s->crc = calloc(pages + 1, sizeof(*s->crc));
	if (!s->v || !s->crc)
		return -ENOMEM;
	pages = 0;
	for (uint32_t i = 0; i < l->index.nspans; i++) {
		uint32_t len = index_span_len(&l->index, i);

		if (!is_dirty(&l->spans[i]))
			continue;
		memcpy(s->crc + pages, l->spans[i].page_crc, pages_count(len) * sizeof(*s->crc));
		s->v[s->n++] = (struct synced){.span = i,
					       .len = len,
					       .off = index_span_start(&l->index, i),
					       .crc = s->crc + pages};
		pages += pages_count(len);
	}
	return 0;
}

static void sync_wrong(struct layer *l, const struct sync_work *s)
{
	char name[LAYER_NAME];

	for (uint32_t i = 0; i < s->n; i++) {
		const struct span *sp = &l->spans[s->v[i].span];

		if (!s->v[i].wrong || !is_dirty(sp) || (int32_t)(s->epoch - sp->epoch) <= 0)
			continue;
		log_warn("%s span %" PRIu32 ": the disk was said to have it, and memory has not",
			 layer_name(l, name), s->v[i].span);
		span_distrust(l, s->v[i].span);
	}
}

/* Spans written after the fdatasync began wait for the next one. True: there are some. */
static bool sync_good(struct layer *l, uint32_t epoch)
{
	bool left = false;

	for (uint32_t i = 0; i < l->index.nspans; i++) {
		struct span *s = &l->spans[i];

		if (!is_dirty(s))
			continue;
		if ((int32_t)(epoch - s->epoch) <= 0)
			left = true;
		else if (s->state == SPAN_PARKED)
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
	s->check_ms = s->held ? clock_ms() + SPAN_COPIED_MS : 0;
}

/*
 * Which pages were lost nobody says, and the kernel reports it once: whatever is not known to be
 * durable may be gone (law 5). What workers are writing now is told by sync_failures.
 */
static void sync_lost(struct flight *f, struct layer *l)
{
	for (uint32_t i = 0; i < l->index.nspans; i++)
		if (is_dirty(&l->spans[i]))
			span_lost(l, i);
	l->sync_failures++;
	atomic_store(&f->en->slots->disk_failed, 1);
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
	_cleanup_(sync_work_freep) struct sync_work *s = (struct sync_work *)w;
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
		sync_wrong(l, s);
		left = sync_good(l, s->epoch);
		present_synced(f->en, l);
	} else {
		log_error("%s: fdatasync: %s; the disk may not have what was not yet durable",
			  layer_name(l, name), err_words(s->result));
		sync_lost(f, l);
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
	if (s) {
		s->w = (struct work){.run = sync_run, .done = sync_done};
		s->f = f;
		s->l = l;
		s->fd = l->fd_fill;
	}
	if (!s || sync_note(s) < 0) {
		sync_work_free(s);
		sync_arm(f, l);
		return;
	}
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

/* --- hits on what may yet be lost --- */

static bool hit_ok(const struct layer *l, const struct span *s, uint64_t start, uint64_t off,
		   uint64_t end)
{
	return pages_are(l->fd_fill, off, end - off, s->page_crc + (off - start) / PAGE_BYTES,
			 true);
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
			sp->check_ms = clock_ms() + SPAN_COPIED_MS;
		if (hit_ok(l, sp, start, from > start ? from : start, to < end ? to : end))
			continue;
		log_warn("%s span %" PRIu32 ": pages were lost before they were durable",
			 layer_name(l, name), i);
		span_distrust(l, i);
		ok = false;
	}
	if (l->sync_awaited)
		sync_start(f, l);
	return ok;
}
