/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fault/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "plugin/engine.h"
#include "plugin/fault/slots.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/uapi.h"

#define BATCH   64  /* events read before other descriptors get their turn */
#define TICK_MS 250 /* how often slots with a time limit are looked at */

/* What the engine knows of a slot in WAITING, beside what the journal says. */
struct wait {
	struct layer *layer;  /* borrowed; NULL while no layer of that name is known */
	uint32_t first, last; /* spans it needs; content, and exec while it is filled */
	bool missed;          /* it could not be answered at once */
	bool busy;            /* held back by an eviction with --wait */
	uint32_t at;          /* its place in active[] */
};

/* An explicit eviction: opens of these inodes are refused or held back. */
struct busy {
	struct layer *layer;  /* borrowed */
	const uint64_t *nids; /* borrowed, sorted */
	size_t n;
	bool wait;
	struct busy *next;
};

struct fault {
	struct engine *en;    /* borrowed */
	struct slots *slots;  /* shared memory */
	struct loop_io *io[2];
	bool paused;          /* no slot was free */
	bool ticking;
	struct busy *busy;
	uint32_t nactive;
	uint32_t active[LIMIT_SLOTS]; /* slots that wait, in no order */
	struct wait wait[LIMIT_SLOTS];
};

static uint32_t slot_index(const struct fault *f, const struct slot *s)
{
	return (uint32_t)(s - f->slots->s);
}

/* --- the list of waiting slots --- */

static void tick(void *ctx);

static void wait_add(struct fault *f, struct slot *s)
{
	uint32_t i = slot_index(f, s);

	f->wait[i] = (struct wait){ .at = f->nactive };
	f->active[f->nactive++] = i;
	if (!f->ticking)
		f->ticking = loop_after(f->en->loop, TICK_MS, tick, f, NULL) == 0;
}

static void wait_remove(struct fault *f, uint32_t i)
{
	uint32_t at = f->wait[i].at;

	f->active[at] = f->active[--f->nactive];
	f->wait[f->active[at]].at = at;
}

static void resume_reading(struct fault *f)
{
	if (!f->paused)
		return;
	f->paused = false;
	loop_set_events(f->io[SLOT_CONTENT], EPOLLIN);
	loop_set_events(f->io[SLOT_EXEC], EPOLLIN);
}

static void answer(struct fault *f, uint32_t i, uint32_t response)
{
	struct slot *s = &f->slots->s[i];
	uint64_t since = s->since_ns;

	/* The keeper is denying it at this moment: the tick comes back to it. */
	if (slot_answer(s, f->en->group[s->group], response) == -EAGAIN)
		return;
	if (f->wait[i].missed)
		flight_latency_add(f->en->flight, clock_ns() - since);
	wait_remove(f, i);
	resume_reading(f);
}

static void refuse(struct fault *f, uint32_t i, int err)
{
	if (err == EBUSY)
		f->en->count.denied_busy++;
	else
		f->en->count.failed++;
	answer(f, i, FAN_DENY_WITH(err));
}

/* --- content: are the spans there? --- */

static bool spans_present(const struct layer *l, uint32_t first, uint32_t last)
{
	for (uint32_t k = first; k <= last; k++)
		if (!span_present(&l->spans[k]))
			return false;
	return true;
}

/* Time that goes by because of an eviction is not the source's. */
static void note_frozen(struct slot *s, const struct layer *l, const struct wait *w)
{
	uint32_t parked = 0;

	for (uint32_t k = w->first; k <= w->last; k++)
		parked += l->spans[k].state == SPAN_PARKED;
	atomic_store(&s->frozen, parked > 0);
}

/*
 * The last span worth bringing in ahead of a reader that is at @off. Small files are read one after
 * the other, in the order of the tar; whoever reads a large one is done at its end.
 */
static uint32_t read_ahead_end(const struct fault *f, const struct layer *l, uint64_t off)
{
	size_t i = extents_first(&l->extents, off);
	const struct extent *x = i < l->extents.n ? &l->extents.v[i] : NULL;

	if (!x || x->size <= f->slots->settings.readahead)
		return l->index.nspans - 1;
	return (uint32_t)((x->tar_off + x->size - 1) / l->index.span_size);
}

/*
 * A reader that has come to the next span is about to want the ones behind it. Whoever jumps
 * around gets the span it asked for and no more.
 */
static void read_ahead(struct fault *f, struct layer *l, uint64_t off, uint32_t span)
{
	uint32_t n = f->slots->settings.readahead / l->index.span_size;
	bool next = span == l->last_sequential + 1;
	uint32_t end;

	if (span == l->last_sequential)
		return;
	l->last_sequential = span;
	end = next ? read_ahead_end(f, l, off) : 0;
	if (span >= end)
		return;
	if (n > end - span)
		n = end - span;
	flight_want(f->en->flight, l, span + 1, span + n, PRIO_AHEAD);
}

static bool content_there(struct fault *f, const struct slot *s, const struct wait *w)
{
	struct layer *l = w->layer;

	return spans_present(l, w->first, w->last) &&
	       flight_hit_ok(f->en->flight, l, s->off, s->count) &&
	       spans_present(l, w->first, w->last);
}

static void try_content(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];
	struct layer *l = w->layer;

	if (l->quarantined) {
		refuse(f, i, EIO);
		return;
	}
	if (content_there(f, s, w)) {
		const uint32_t last = w->last;
		const uint64_t off = s->off;

		if (!w->missed)
			f->en->count.hits++;
		answer(f, i, FAN_ALLOW);
		read_ahead(f, l, off, last);
		return;
	}
	if (!w->missed)
		f->en->count.misses++;
	w->missed = true;
	note_frozen(s, l, w);
	flight_want(f->en->flight, l, w->first, w->last, PRIO_DEMAND);
}

static void new_content(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];

	/* Behind the end there is nothing to bring. */
	if (s->off >= w->layer->index.tar_size) {
		answer(f, i, FAN_ALLOW);
		return;
	}
	if (s->count == 0) /* the kernel may leave the length open */
		s->count = 1;
	if (s->count > w->layer->index.tar_size - s->off)
		s->count = w->layer->index.tar_size - s->off;
	layer_spans_of(w->layer, s->off, s->count, &w->first, &w->last);
	for (uint32_t k = w->first; k <= w->last; k++)
		w->layer->spans[k].touched_ns = s->since_ns;
	try_content(f, i);
}

/* --- exec and open on the EROFS superblock --- */

static int by_nid(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static const struct busy *find_busy(const struct fault *f, const struct layer *l, uint64_t nid)
{
	for (const struct busy *b = f->busy; b; b = b->next)
		if (b->layer == l && bsearch(&nid, b->nids, b->n, sizeof(nid), by_nid))
			return b;
	return NULL;
}

/*
 * The whole executable is brought in before it runs. What cannot be had in time comes on demand
 * later, which is always correct.
 */
static void try_exec(struct fault *f, uint32_t i)
{
	struct wait *w = &f->wait[i];

	if (w->layer->quarantined) {
		refuse(f, i, EIO);
	} else if (spans_present(w->layer, w->first, w->last)) {
		answer(f, i, FAN_ALLOW);
	} else {
		w->missed = true;
		flight_want(f->en->flight, w->layer, w->first, w->last, PRIO_DEMAND);
	}
}

static void new_exec(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];
	const struct busy *b = find_busy(f, w->layer, s->ino);
	const struct extent *x;

	w->busy = b && b->wait;
	if (w->busy) {
		atomic_store(&s->frozen, 1);
		return;
	}
	if (b) {
		refuse(f, i, EBUSY);
		return;
	}
	atomic_store(&s->frozen, 0);
	x = extents_by_nid(&w->layer->extents, s->ino);
	if (!(s->mask & FAN_OPEN_EXEC_PERM) || !x ||
	    x->size > f->slots->settings.exec_fill_max) {
		answer(f, i, FAN_ALLOW);
		return;
	}
	layer_spans_of(w->layer, x->tar_off, x->size, &w->first, &w->last);
	try_exec(f, i);
}

/* --- one event --- */

static struct layer *layer_of(struct fault *f, const struct slot *s)
{
	return s->group == SLOT_CONTENT ? engine_layer_by_tar(f->en, s->dev, s->ino)
					: engine_layer_by_fs(f->en, s->dev);
}

/* A slot whose layer is not known, or not yet: a new engine learns of its layers one by one. */
static void handle_unknown(struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];

	if (!f->en->ready)
		return;
	/* An exec or open reads nothing by itself; a read of a tar nobody knows shows holes. */
	if (s->group == SLOT_EXEC) {
		answer(f, i, FAN_ALLOW);
		return;
	}
	log_error("process %d reads a layer that is not known (device %llu, inode %llu): refused",
		  s->pid, (unsigned long long)s->dev, (unsigned long long)s->ino);
	refuse(f, i, EIO);
}

static void handle(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];

	atomic_store(&f->slots->in_hand[0], i + 1);
	if (s->group == SLOT_EXEC && s->pid == atomic_load(&f->slots->keeper_pid)) {
		answer(f, i, FAN_ALLOW); /* a lease probe */
	} else {
		w->layer = layer_of(f, s);
		if (!w->layer)
			handle_unknown(f, i);
		else if (s->group == SLOT_CONTENT)
			new_content(f, i);
		else
			new_exec(f, i);
	}
	atomic_store(&f->slots->in_hand[0], 0);
}

static void look_again(struct fault *f, uint32_t i)
{
	atomic_store(&f->slots->in_hand[0], i + 1);
	if (f->slots->s[i].group == SLOT_CONTENT)
		try_content(f, i);
	else if (!f->wait[i].busy)
		try_exec(f, i);
	atomic_store(&f->slots->in_hand[0], 0);
}

static void count_event(struct fault *f, const struct slot *s)
{
	if (s->group == SLOT_CONTENT)
		f->en->count.pre_access++;
	else if (s->mask & FAN_OPEN_EXEC_PERM)
		f->en->count.open_exec++;
}

/*
 * read(2) gives as many events as fit, and only one can be journalled: so exactly one may fit.
 * Exec and open events are bare, content events carry the range. (EROFS always names one; two
 * events without would fit, and the kernel gives those only for calls nobody makes on a tar.)
 */
static size_t event_size(enum slot_group group)
{
	return sizeof(struct fanotify_event_metadata) +
	       (group == SLOT_CONTENT ? sizeof(struct fan_range_record) : 0);
}

/* Reads one event into the journal. False when none was there, or no slot. */
static bool read_one(struct fault *f, enum slot_group group)
{
	struct slot *s = slots_take(f->slots);
	ssize_t n;

	if (!s) {
		f->paused = true;
		loop_set_events(f->io[SLOT_CONTENT], 0);
		loop_set_events(f->io[SLOT_EXEC], 0);
		return false;
	}
	s->group = group;
	n = read(f->en->group[group], s->raw, event_size(group));
	if (n <= 0) {
		slot_put_back(s);
		return false;
	}
	wait_add(f, s);
	if (slot_parse(s) < 0) {
		log_error("an event the kernel sent could not be read: refused");
		refuse(f, slot_index(f, s), EIO);
		return true;
	}
	count_event(f, s);
	handle(f, slot_index(f, s));
	return true;
}

static void read_group(struct fault *f, enum slot_group group)
{
	atomic_store(&f->slots->heartbeat_ns, clock_ns());
	for (int n = 0; n < BATCH && read_one(f, group); n++)
		;
}

static void on_content(void *ctx, uint32_t events)
{
	read_group(ctx, SLOT_CONTENT);
}

static void on_exec(void *ctx, uint32_t events)
{
	read_group(ctx, SLOT_EXEC);
}

/* --- time limits --- */

static bool exec_overdue(const struct fault *f, const struct slot *s)
{
	uint64_t limit = (uint64_t)f->slots->settings.exec_wait_ms * 1000000;

	return s->group == SLOT_EXEC && clock_ns() - s->since_ns > limit;
}

static void tick(void *ctx)
{
	struct fault *f = ctx;

	f->ticking = false;
	for (uint32_t k = f->nactive; k-- > 0; ) {
		uint32_t i = f->active[k];
		const struct slot *s = &f->slots->s[i];

		if (atomic_load(&s->state) == SLOT_DENIED) {
			f->en->count.failed++;
			answer(f, i, FAN_ALLOW); /* the keeper answered; this only frees it */
		} else if (f->wait[i].layer && !f->wait[i].busy && exec_overdue(f, s)) {
			answer(f, i, FAN_ALLOW);
		}
	}
	if (f->nactive > 0 && !f->ticking)
		f->ticking = loop_after(f->en->loop, TICK_MS, tick, f, NULL) == 0;
}

/*
 * --- what others tell ---
 *
 * These walk active[] backwards: an answered slot's place is taken by the last one, which was
 * looked at already. What they call may come back here and shorten the list, hence k < nactive.
 */

static bool overlaps(const struct wait *w, const struct layer *l, uint32_t first, uint32_t last)
{
	return w->layer == l && !w->busy && w->first <= last && w->last >= first;
}

void fault_recheck(struct engine *en, struct layer *l, uint32_t first, uint32_t last)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0; )
		if (k < f->nactive && overlaps(&f->wait[f->active[k]], l, first, last))
			look_again(f, f->active[k]);
}

void fault_deny(struct engine *en, struct layer *l, uint32_t first, uint32_t last, int err)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0; )
		if (k < f->nactive && overlaps(&f->wait[f->active[k]], l, first, last))
			refuse(f, f->active[k], err);
}

void fault_layer_ready(struct engine *en, struct layer *l)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0; )
		if (k < f->nactive && !f->wait[f->active[k]].layer)
			handle(f, f->active[k]);
}

void fault_all_known(struct engine *en)
{
	fault_layer_ready(en, NULL);
}

void fault_layer_gone(struct engine *en, struct layer *l)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0; )
		if (k < f->nactive && f->wait[f->active[k]].layer == l) {
			/* One that the keeper is denying at this moment stays a while. */
			f->wait[f->active[k]].layer = NULL;
			refuse(f, f->active[k], EIO);
		}
}

static struct busy **busy_place(struct fault *f, const struct layer *l)
{
	struct busy **at = &f->busy;

	while (*at && (*at)->layer != l)
		at = &(*at)->next;
	return at;
}

static void release_held(struct fault *f, const struct layer *l)
{
	for (uint32_t k = f->nactive; k-- > 0; )
		if (k < f->nactive && f->wait[f->active[k]].layer == l && f->wait[f->active[k]].busy)
			handle(f, f->active[k]);
}

void fault_busy_set(struct engine *en, struct layer *l, const uint64_t *nids, size_t n, bool wait)
{
	struct fault *f = en->fault;
	struct busy **at = busy_place(f, l);

	if (*at) {
		struct busy *old = *at;

		*at = old->next;
		free(old);
	}
	if (nids) {
		struct busy *b = calloc(1, sizeof(*b));

		/* Without it opens are simply not refused: the lease proof does not need it. */
		if (b) {
			*b = (struct busy){ .layer = l, .nids = nids, .n = n, .wait = wait,
					    .next = f->busy };
			f->busy = b;
		}
	}
	release_held(f, l);
}

/* --- start --- */

static void adopt_slots(struct fault *f)
{
	for (uint32_t i = 0; i < f->slots->count; i++) {
		/* Also what is denied since slots_settle(): it has to be freed. */
		if (atomic_load(&f->slots->s[i].state) == SLOT_FREE)
			continue;
		wait_add(f, &f->slots->s[i]);
		f->wait[i].missed = true;
		handle(f, i);
	}
}

int fault_new(struct engine *en, struct fault **ret)
{
	struct fault *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	f->en = en;
	f->slots = en->slots;
	en->fault = f;
	adopt_slots(f);
	r = loop_add_io(en->loop, en->group[SLOT_CONTENT], EPOLLIN, true, on_content, f,
			&f->io[SLOT_CONTENT]);
	if (r == 0)
		r = loop_add_io(en->loop, en->group[SLOT_EXEC], EPOLLIN, true, on_exec, f,
				&f->io[SLOT_EXEC]);
	if (r < 0) {
		en->fault = fault_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

struct fault *fault_free(struct fault *f)
{
	if (!f)
		return NULL;
	loop_remove_io(f->io[SLOT_CONTENT]);
	loop_remove_io(f->io[SLOT_EXEC]);
	while (f->busy) {
		struct busy *b = f->busy;

		f->busy = b->next;
		free(b);
	}
	free(f);
	return NULL;
}
