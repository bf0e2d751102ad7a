/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/pages.h"
#include "plugin/store/space.h"

/* After a write that found no space, only what readers wait for is tried. */
#define FULL_PAUSE_MS 5000u

struct span_work {
	struct work w;
	struct flight *f;   /* borrowed */
	struct layer *l;    /* borrowed, counted */
	struct fetcher *fe; /* a reference; NULL: the span is read back */
	uint32_t slot, span, len, source;
	int fd; /* borrowed from the layer */
	uint64_t off;
	struct digest want;
	uint32_t failures; /* layer->sync_failures before the write */
	int result;
	uint32_t *crc; /* owned; with result 0 */
	void *held; /* owned; its pages (pages.h), with result 0; NULL: they cannot be held. Before
		     * a check those of it that were held till then */
};

void fetcher_ack(struct fetcher *fe, uint32_t slot)
{
	struct fetch_ack ack = {.op = FETCH_ACK, .slot = slot};

	/* It does not read: the loop finds its end closed and drops it. */
	if (send(fe->sock, &ack, sizeof(ack), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(ack))
		shutdown(fe->sock, SHUT_RDWR);
}

static int verify(const struct span_work *s, const void *data)
{
	struct digest is;
	int r = digest_of(data, s->len, &is);

	if (r < 0)
		return r;
	return digest_equal(&is, &s->want) ? 0 : -EBADMSG;
}

static int sum_pages(struct span_work *s, const void *data)
{
	s->crc = malloc(pages_count(s->len) * sizeof(*s->crc));
	if (!s->crc)
		return -ENOMEM;
	pages_crc(data, s->len, s->crc);
	return 0;
}

static int write_pages(const struct span_work *s, const void *data)
{
	int r = pages_renew(s->fd, s->off, s->len);

	return r < 0 ? r : fd_pwrite_full(s->fd, data, s->len, s->off);
}

/* The fetcher can write to the slot at any time: what is checked and written is our own copy. */
static void write_run(struct work *w, void *scratch)
{
	struct span_work *s = (struct span_work *)w;

	memcpy(scratch, s->fe->buffer + (size_t)s->slot * LIMIT_SPAN_MAX, s->len);
	fetcher_ack(s->fe, s->slot);
	s->result = verify(s, scratch);
	if (s->result == 0)
		s->result = sum_pages(s, scratch);
	if (s->result == 0)
		s->result = write_pages(s, scratch);
	/* What goes before it is held is noticed by whoever is let at it. */
	if (s->result == 0)
		s->held = pages_hold(s->fd, s->off, s->len);
}

static int read_right(struct span_work *s, void *scratch)
{
	int r = fd_pread_full(s->fd, scratch, s->len, s->off);

	if (r == 0)
		r = verify(s, scratch);
	return r < 0 ? r : sum_pages(s, scratch);
}

/*
 * From the disk: pages whose write-back has failed look right and are gone (law 5). Those that were
 * held may be all there is of it; then they are written again.
 */
static void check_run(struct work *w, void *scratch)
{
	struct span_work *s = (struct span_work *)w;
	bool kept = s->held && read_right(s, scratch) == 0;

	s->held = pages_let_go(s->held, s->len);
	if (!pages_drop(s->fd, s->off, s->len))
		s->result = -EBUSY;
	else if (!kept)
		s->result = read_right(s, scratch);
	else if (!pages_are(s->fd, s->off, s->len, s->crc, false))
		s->result = write_pages(s, scratch);
	if (s->result == 0 || (s->result == -EBUSY && kept))
		s->held = pages_hold(s->fd, s->off, s->len);
}

static void free_work(struct span_work *s)
{
	free(s->crc);
	pages_let_go(s->held, s->len);
	free(s);
}

/* It is written (or was there), and right. */
static void arrived(struct span_work *s)
{
	struct span *span = &s->l->spans[s->span];

	span->page_crc = take_ptr(s->crc);
	span->held = take_ptr(s->held);
	span->deaths = 0;
	span->refused = 0;
	span_set(s->l, s->span, SPAN_DIRTY);
	sync_arm(s->f, s->l);
	fault_recheck(s->f->en, s->l, s->span, s->span);
}

static void tell_full(struct flight *f, struct layer *l, uint32_t span, int err)
{
	uint64_t now = clock_ms();
	char name[LAYER_NAME];

	if (now >= f->full_until_ms && l->spans[span].prio == PRIO_DEMAND)
		log_error("%s span %" PRIu32 ": no room for it: %s", layer_name(l, name), span,
			  err_words(err));
	f->full_until_ms = now + FULL_PAUSE_MS;
}

/* What is idle goes first, if a reader waits. While we stop it is the next engine's business. */
void span_no_room(struct flight *f, struct layer *l, uint32_t span, int err, bool disk)
{
	uint32_t len = index_span_len(&l->index, span);

	if (l->spans[span].prio == PRIO_DEMAND && !flight_draining(f, l) &&
	    (f->en->stopping || space_want(f->en->space, len, err, disk))) {
		f->no_room = true;
		span_again(f, l, span);
		return;
	}
	tell_full(f, l, span, err);
	span_give_up(f, l, span, -err);
}

void flight_room(struct flight *f, int err)
{
	f->no_room = false;
	while (err < 0 && f->ring[PRIO_DEMAND]) {
		struct layer *l = f->ring[PRIO_DEMAND];
		uint32_t span = l->queue[PRIO_DEMAND].head - 1;

		queue_drop(f, l, span);
		tell_full(f, l, span, err);
		span_give_up(f, l, span, -err);
	}
	flight_kick(f);
}

/* The store refused it: no other source would help. */
static void unwritable(struct span_work *s)
{
	char name[LAYER_NAME];

	if (s->result == -ENOSPC || s->result == -EDQUOT) {
		span_no_room(s->f, s->l, s->span, s->result, true);
		return;
	}
	log_error("%s span %" PRIu32 ": cannot write: %s", layer_name(s->l, name), s->span,
		  err_words(s->result));
	span_give_up(s->f, s->l, s->span, EIO);
}

static void written(struct span_work *s)
{
	struct flight *f = s->f;

	if (s->result < 0)
		space_give_back(f->en->space, s->len);
	else
		space_wrote(f->en->space, s->len);
	if (s->result == 0 && s->failures != s->l->sync_failures) {
		/* An fdatasync failed meanwhile: its error may have been about these pages. */
		span_again(f, s->l, s->span);
	} else if (s->result == 0) {
		f->en->count.filled += s->len;
		source_good(f, s->l, s->source);
		arrived(s);
	} else if (s->result == -EBADMSG) {
		/* They could be decoded: what is behind them may be right. */
		source_bad(f, s->l, s->source, s->span, s->span + 1,
			   "its bytes have the wrong digest");
		span_again(f, s->l, s->span);
	} else if (s->result == -ENOMEM) {
		source_failed(f, s->l, s->source, "out of memory", 0, false);
		span_again(f, s->l, s->span);
	} else {
		unwritable(s);
	}
}

static void write_done(struct work *w)
{
	struct span_work *s = (struct span_work *)w;
	struct flight *f = s->f;
	struct layer *l = s->l;

	fetcher_unref(s->fe);
	if (!f->closing)
		written(s);
	free_work(s);
	flight_let_go(f, l);
	flight_kick(f);
}

/* Somebody has a page of it in hand, or a sync failed meanwhile: nothing was seen of the disk. */
static void check_later(struct span_work *s)
{
	struct flight *f = s->f;
	struct layer *l = s->l;
	struct span *span = &l->spans[s->span];
	bool awaited = span->prio == PRIO_DEMAND && !flight_draining(f, l);

	span_distrust(l, s->span);
	if (s->held) {
		span->page_crc = take_ptr(s->crc);
		span->held = take_ptr(s->held);
		span_set(l, s->span, SPAN_LOST);
		fault_recheck(f->en, l, s->span, s->span);
	} else if (awaited) {
		flight_want(f, l, s->span, s->span, PRIO_DEMAND);
	}
}

/* What is there is not what should be: it is fetched as if it never had been. */
static void check_done(struct work *w)
{
	struct span_work *s = (struct span_work *)w;
	struct flight *f = s->f;
	struct layer *l = s->l;

	f->checks--;
	if (f->closing) {
		;
	} else if (s->result == 0 && s->failures == l->sync_failures) {
		arrived(s);
	} else if (s->result == 0 || s->result == -EBUSY) {
		check_later(s);
	} else if (flight_draining(f, l)) {
		span_set(l, s->span, SPAN_ABSENT);
	} else {
		span_set(l, s->span, SPAN_QUEUED);
		queue_put(f, l, s->span, true);
	}
	free_work(s);
	flight_let_go(f, l);
	flight_kick(f);
}

static struct span_work *new_work(struct flight *f, struct layer *l, uint32_t span)
{
	struct span_work *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->f = f;
	s->l = l;
	s->span = span;
	s->len = index_span_len(&l->index, span);
	s->fd = l->fd_fill;
	s->off = index_span_start(&l->index, span);
	s->want = l->index.digests[span];
	s->failures = l->sync_failures;
	return s;
}

void span_work_write(struct flight *f, struct fetcher *fe, uint32_t slot, uint32_t span)
{
	struct layer *l = fe->run.layer;
	struct span *sp = &l->spans[span];
	struct span_work *s = NULL;
	int r;

	if (sp->state != SPAN_QUEUED || sp->stage == STAGE_WORK) {
		/* It was decoded on the way to another. */
		fetcher_ack(fe, slot);
		return;
	}
	if (sp->stage == STAGE_WAIT)
		queue_drop(f, l, span);
	r = space_take(f->en->space, index_span_len(&l->index, span), sp->prio == PRIO_DEMAND);
	if (r < 0) {
		span_no_room(f, l, span, r, false);
		fetcher_ack(fe, slot);
		return;
	}
	s = new_work(f, l, span);
	if (!s) {
		space_give_back(f->en->space, index_span_len(&l->index, span));
		source_failed(f, l, fe->run.source, "out of memory", 0, false);
		span_again(f, l, span);
		fetcher_ack(fe, slot);
		return;
	}
	s->w = (struct work){.run = write_run, .done = write_done};
	s->fe = fe;
	s->slot = slot;
	s->source = fe->run.source;
	fe->refs++;
	l->inflight++;
	sp->stage = STAGE_WORK;
	workers_submit(f->workers, &s->w, sp->prio == PRIO_DEMAND ? WORK_FIRST : WORK_SECOND);
}

bool span_work_check(struct flight *f, struct layer *l, uint32_t span)
{
	struct span *sp = &l->spans[span];
	struct span_work *s = new_work(f, l, span);

	if (!s)
		return false;
	s->w = (struct work){.run = check_run, .done = check_done};
	s->held = take_ptr(sp->held);
	sp->stage = STAGE_WORK;
	l->inflight++;
	f->checks++;
	workers_submit(f->workers, &s->w, sp->prio == PRIO_DEMAND ? WORK_FIRST : WORK_SECOND);
	return true;
}
