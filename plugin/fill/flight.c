/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fill/flight.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "plugin/engine.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/loop.h"

_Static_assert(SPAN_QUEUES == 2 * PRIO_COUNT, "a queue to fetch and one to check per priority");

const char *layer_name(const struct layer *l, char out[LAYER_NAME])
{
	char hex[DIGEST_HEX + 1];

	snprintf(out, LAYER_NAME, "layer %.12s", digest_hex(&l->diff_id, hex));
	return out;
}

/* --- the queues: per layer and priority, first come first served; layers take turns --- */

static unsigned queue_of(const struct span *s)
{
	return s->prio + (s->state == SPAN_CHECKING ? PRIO_COUNT : 0u);
}

static void ring_add(struct flight *f, unsigned q, struct layer *l)
{
	struct layer *head = f->ring[q];

	if (head) {
		l->queue[q].next = head;
		l->queue[q].prev = head->queue[q].prev;
		l->queue[q].prev->queue[q].next = l;
		head->queue[q].prev = l;
	} else {
		l->queue[q].next = l->queue[q].prev = l;
		f->ring[q] = l;
	}
	f->nring[q]++;
}

static void ring_remove(struct flight *f, unsigned q, struct layer *l)
{
	struct layer *next = l->queue[q].next;

	if (next == l) {
		f->ring[q] = NULL;
	} else {
		next->queue[q].prev = l->queue[q].prev;
		l->queue[q].prev->queue[q].next = next;
		if (f->ring[q] == l)
			f->ring[q] = next;
	}
	f->nring[q]--;
}

void queue_put(struct flight *f, struct layer *l, uint32_t span, bool front)
{
	struct span *s = &l->spans[span];
	unsigned q = queue_of(s);
	struct span_queue *sq = &l->queue[q];

	s->prev = front ? 0 : sq->tail;
	s->next = front ? sq->head : 0;
	*(s->prev ? &l->spans[s->prev - 1].next : &sq->head) = span + 1;
	*(s->next ? &l->spans[s->next - 1].prev : &sq->tail) = span + 1;
	s->stage = STAGE_WAIT;
	if (sq->n++ == 0)
		ring_add(f, q, l);
}

void queue_drop(struct flight *f, struct layer *l, uint32_t span)
{
	struct span *s = &l->spans[span];
	unsigned q = queue_of(s);
	struct span_queue *sq = &l->queue[q];

	*(s->prev ? &l->spans[s->prev - 1].next : &sq->head) = s->next;
	*(s->next ? &l->spans[s->next - 1].prev : &sq->tail) = s->prev;
	s->prev = s->next = 0;
	s->stage = STAGE_NONE;
	if (--sq->n == 0)
		ring_remove(f, q, l);
}

/* --- when to dispatch --- */

/* Not at once: all events of a round are to be in the queues before neighbours are merged. */
void flight_kick(struct flight *f)
{
	uint64_t one = 1;

	if (f->kicked || f->closing)
		return;
	f->kicked = write(f->kick, &one, sizeof(one)) == sizeof(one);
}

/* xorshift32 */
uint32_t flight_random(struct flight *f)
{
	uint32_t x = f->seed ? f->seed : 1;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return f->seed = x;
}

static void kicked(void *ctx, uint32_t events)
{
	struct flight *f = ctx;
	uint64_t count;

	(void)!read(f->kick, &count, sizeof(count));
	f->kicked = false;
	flight_dispatch(f);
}

static void woken(void *ctx)
{
	struct flight *f = ctx;

	f->wake = NULL;
	flight_dispatch(f);
}

void flight_wake_at(struct flight *f, uint64_t at_ms)
{
	uint64_t now = clock_ms();

	if (f->wake && f->wake_ms <= at_ms)
		return;
	if (f->wake)
		loop_cancel(f->wake);
	f->wake = NULL;
	f->wake_ms = at_ms;
	if (loop_after(f->en->loop, at_ms > now ? at_ms - now : 0, woken, f, &f->wake) < 0)
		f->wake = NULL;
}

/* --- the public face --- */

static uint32_t cpu_count(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

int flight_new(struct engine *en, struct flight **ret)
{
	struct flight *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->en = en;
	f->seed = (uint32_t)clock_ns() ^ (uint32_t)getpid();
	f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = f->kick < 0 ? -errno : 0;
	if (r == 0)
		r = loop_add_io(en->loop, f->kick, EPOLLIN, false, kicked, f, &f->kick_io);
	if (r == 0)
		r = workers_new(en->loop, cpu_count(), &f->workers);
	if (r < 0) {
		flight_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

struct flight *flight_free(struct flight *f)
{
	if (!f)
		return NULL;
	f->closing = true;
	workers_free(f->workers);
	while (f->fetchers)
		pool_drop(f, f->fetchers, -ECANCELED, NULL);
	while (f->drains) {
		struct drain *d = f->drains;

		f->drains = d->next;
		free(d);
	}
	if (f->wake)
		loop_cancel(f->wake);
	hosts_free(f);
	loop_remove_io(f->kick_io);
	cleanup_closep(&f->kick);
	free(f);
	return NULL;
}

static void want_one(struct flight *f, struct layer *l, uint32_t span, enum prio prio)
{
	struct span *s = &l->spans[span];

	switch (s->state) {
	case SPAN_LOST:
		/* Readers are content with it; a layer is not complete. */
		if (prio != PRIO_FILL || clock_ms() < s->check_ms)
			break;
		/* fall through */
	case SPAN_ABSENT:
	case SPAN_UNPROVEN:
		span_set(l, span, s->state == SPAN_ABSENT ? SPAN_QUEUED : SPAN_CHECKING);
		s->refused = 0;
		s->prio = (uint8_t)prio;
		queue_put(f, l, span, false);
		break;
	case SPAN_QUEUED:
	case SPAN_CHECKING:
		if (prio >= s->prio)
			break;
		if (s->stage == STAGE_WAIT) {
			queue_drop(f, l, span);
			s->prio = (uint8_t)prio;
			queue_put(f, l, span, false);
		}
		s->prio = (uint8_t)prio;
		break;
	default:
		break;
	}
}

void flight_want(struct flight *f, struct layer *l, uint32_t first, uint32_t last, enum prio prio)
{
	uint64_t now = clock_ms();

	for (uint32_t i = first; i <= last && i < l->index.nspans; i++) {
		if (prio == PRIO_DEMAND)
			l->spans[i].wanted_ms = now;
		want_one(f, l, i, prio);
	}
	flight_kick(f);
}

void flight_forget(struct flight *f, struct layer *l)
{
	for (uint32_t i = 0; i < l->index.nspans; i++) {
		struct span *s = &l->spans[i];

		if (s->state != SPAN_QUEUED && s->state != SPAN_CHECKING)
			continue;
		if (s->stage == STAGE_WAIT) {
			queue_drop(f, l, i);
			span_set(l, i, s->state == SPAN_QUEUED ? SPAN_ABSENT : SPAN_UNPROVEN);
		} else {
			s->prio = PRIO_FILL;
		}
	}
	pool_drop_layer(f, l);
}

uint32_t flight_busy(const struct flight *f, const struct layer *l)
{
	return l->nbusy;
}

static struct drain **find_drain(struct flight *f, const struct layer *l)
{
	struct drain **at = &f->drains;

	while (*at && (*at)->layer != l)
		at = &(*at)->next;
	return at;
}

bool flight_draining(const struct flight *f, const struct layer *l)
{
	return *find_drain((struct flight *)f, l) != NULL;
}

static void drain_step(struct flight *f, struct layer *l)
{
	struct drain **at = find_drain(f, l), *d = *at;

	if (!d || l->inflight > 0 || l->nbusy > 0)
		return;
	if (l->sync_timer) {
		sync_start(f, l);
		if (l->syncing)
			return;
	}
	*at = d->next;
	d->done(d->ctx, l->sync_failures == d->failures ? 0 : -EIO);
	free(d);
}

void flight_let_go(struct flight *f, struct layer *l)
{
	l->inflight--;
	if (!f->closing)
		drain_step(f, l);
}

void flight_drain(struct flight *f, struct layer *l, void (*done)(void *ctx, int result), void *ctx)
{
	struct drain *d = malloc(sizeof(*d));

	if (!d) {
		done(ctx, -ENOMEM);
		return;
	}
	*d = (struct drain){.layer = l,
			    .failures = l->sync_failures,
			    .done = done,
			    .ctx = ctx,
			    .next = f->drains};
	f->drains = d;
	flight_forget(f, l);
	drain_step(f, l);
}

/* --- times from a miss to its answer --- */

void flight_latency_add(struct flight *f, uint64_t ns)
{
	uint64_t us = ns / 1000;

	f->latency_us[f->nlatency++ % LATENCY_KEPT] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

void flight_latency(const struct flight *f, uint64_t *p50, uint64_t *p99, uint64_t *max)
{
	uint32_t sorted[LATENCY_KEPT];
	size_t n = f->nlatency < LATENCY_KEPT ? (size_t)f->nlatency : LATENCY_KEPT;

	*p50 = *p99 = *max = 0;
	if (n == 0)
		return;
	for (size_t i = 0; i < n; i++)
		sorted[i] = f->latency_us[i];
	qsort(sorted, n, sizeof(sorted[0]), by_value);
	*p50 = sorted[(n - 1) / 2];
	*p99 = sorted[(n - 1) * 99 / 100];
	*max = sorted[n - 1];
}
