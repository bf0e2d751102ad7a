/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fault/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "plugin/descriptors.h"
#include "plugin/engine.h"
#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/uapi.h"

#define BATCH   64    /* events read before other descriptors get their turn */
#define TICK_MS 250   /* how often slots with a time limit are looked at */
#define TELL_MS 60000 /* how often the log says that readers have to wait their turn */

static uint32_t slot_index(const struct fault *f, const struct slot *s)
{
	return (uint32_t)(s - f->slots->s);
}

/* --- the list of waiting slots --- */

static void tick(void *ctx);

static void tick_soon(struct fault *f)
{
	if (!f->ticking)
		f->ticking = loop_after(f->en->loop, TICK_MS, tick, f, NULL) == 0;
}

static void wait_add(struct fault *f, struct slot *s)
{
	uint32_t i = slot_index(f, s);

	f->wait[i] = (struct wait){.at = f->nactive};
	f->active[f->nactive++] = i;
	tick_soon(f);
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

void fault_answer(struct fault *f, uint32_t i, uint32_t response)
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

void fault_refuse(struct fault *f, uint32_t i, int err)
{
	if (err == EBUSY)
		f->en->count.denied_busy++;
	else
		f->en->count.failed++;
	if (err == EIO)
		fault_note_denied(f, i);
	fault_answer(f, i, FAN_DENY_WITH(err));
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
		fault_answer(f, i, FAN_ALLOW);
		return;
	}
	log_error("process %d reads a layer that is not known (device %llu, inode %llu): refused",
		  s->pid, (unsigned long long)s->dev, (unsigned long long)s->ino);
	fault_refuse(f, i, EIO);
}

void fault_handle(struct fault *f, uint32_t i)
{
	struct slot *s = &f->slots->s[i];
	struct wait *w = &f->wait[i];

	atomic_store(&f->slots->in_hand[0], i + 1);
	if (s->group == SLOT_EXEC && s->pid == atomic_load(&f->slots->keeper_pid)) {
		fault_answer(f, i, FAN_ALLOW); /* a lease probe */
	} else {
		w->layer = layer_of(f, s);
		if (!w->layer)
			handle_unknown(f, i);
		else if (s->group == SLOT_CONTENT)
			fault_new_content(f, i);
		else
			fault_new_exec(f, i);
	}
	atomic_store(&f->slots->in_hand[0], 0);
}

static void look_again(struct fault *f, uint32_t i)
{
	atomic_store(&f->slots->in_hand[0], i + 1);
	if (f->slots->s[i].group == SLOT_CONTENT)
		fault_try_content(f, i);
	else if (!f->wait[i].busy)
		fault_try_exec(f, i);
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

/*
 * The others wait in the kernel's queue, which has no end (FAN_UNLIMITED_QUEUE), until a slot is
 * free or the next tick.
 */
static void pause_reading(struct fault *f)
{
	uint64_t now = clock_ms();

	f->paused = true;
	loop_set_events(f->io[SLOT_CONTENT], 0);
	loop_set_events(f->io[SLOT_EXEC], 0);
	tick_soon(f);
	if (f->told_ms && now - f->told_ms < TELL_MS)
		return;
	f->told_ms = now;
	log_warn("%u readers wait for content, and no more can be looked at now (%u descriptors): "
		 "others wait until it is their turn",
		 f->nactive, f->slots->descriptors);
}

/* Reads one event into the journal. False when none was there, no slot, or no descriptor. */
static bool read_one(struct fault *f, enum slot_group group)
{
	bool left = descriptors_left(f->slots->descriptors, f->en->group[group]);
	struct slot *s = left ? slots_take(f->slots) : NULL;
	ssize_t n;

	if (!s) {
		pause_reading(f);
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
		fault_refuse(f, slot_index(f, s), EIO);
		return true;
	}
	count_event(f, s);
	fault_handle(f, slot_index(f, s));
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

/* An exec that has waited long enough is allowed, also when the deadline of all faults is shorter.
 */
static bool exec_overdue(const struct fault *f, const struct slot *s)
{
	const struct settings *set = &f->slots->settings;
	uint64_t most = set->deadline_ms > 2 * TICK_MS ? set->deadline_ms - 2 * TICK_MS : 0;
	uint64_t limit = set->exec_wait_ms < most ? set->exec_wait_ms : most;

	return s->group == SLOT_EXEC && clock_ns() - s->since_ns > limit * 1000000;
}

static void tick(void *ctx)
{
	struct fault *f = ctx;

	f->ticking = false;
	fault_tell_hung(f);
	for (uint32_t k = f->nactive; k-- > 0;) {
		uint32_t i = f->active[k];
		const struct slot *s = &f->slots->s[i];

		if (atomic_load(&s->state) == SLOT_DENIED) {
			f->en->count.failed++;
			fault_note_denied(f, i);
			fault_answer(f, i, FAN_ALLOW); /* the keeper answered; this only frees it */
		} else if (f->wait[i].layer && !f->wait[i].busy && exec_overdue(f, s)) {
			fault_answer(f, i, FAN_ALLOW);
		}
	}
	/* What others had open may be closed by now. */
	resume_reading(f);
	if (f->nactive > 0)
		tick_soon(f);
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

	for (uint32_t k = f->nactive; k-- > 0;)
		if (k < f->nactive && overlaps(&f->wait[f->active[k]], l, first, last))
			look_again(f, f->active[k]);
}

void fault_deny(struct engine *en, struct layer *l, uint32_t first, uint32_t last, int err)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0;)
		if (k < f->nactive && overlaps(&f->wait[f->active[k]], l, first, last))
			fault_refuse(f, f->active[k], err);
}

void fault_layer_ready(struct engine *en, struct layer *l)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0;)
		if (k < f->nactive && !f->wait[f->active[k]].layer)
			fault_handle(f, f->active[k]);
}

void fault_all_known(struct engine *en)
{
	fault_layer_ready(en, NULL);
}

void fault_layer_gone(struct engine *en, struct layer *l)
{
	struct fault *f = en->fault;

	for (uint32_t k = f->nactive; k-- > 0;)
		if (k < f->nactive && f->wait[f->active[k]].layer == l) {
			/* One that the keeper is denying at this moment stays a while. */
			f->wait[f->active[k]].layer = NULL;
			fault_refuse(f, f->active[k], EIO);
		}
	fault_forget_denied(f, l);
}

/* --- start --- */

static void adopt_slots(struct fault *f)
{
	for (uint32_t i = 0; i < slots_count(f->slots); i++) {
		/* Also what is denied since slots_settle(): it has to be freed. */
		if (atomic_load(&f->slots->s[i].state) == SLOT_FREE)
			continue;
		wait_add(f, &f->slots->s[i]);
		f->wait[i].missed = true;
		fault_handle(f, i);
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
