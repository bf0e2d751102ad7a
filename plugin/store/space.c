/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/space.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/coldest.h"
#include "plugin/store/kept.h"
#include "plugin/store/load.h"

/* What is made free on a full file system, at least: not every span is to wait for its own. */
#define STEP (64u << 20)
/* How often cache.max is looked at while nothing is written, after a reread of the settings too. */
#define LOOK_MS 5000u
/* Readers that come so soon after an attempt in vain are told at once. */
#define VAIN_MS  1000u
#define QUIET_MS 10000u

struct space {
	struct engine *en;       /* borrowed */
	struct loop_timer *look; /* owned by the loop */
	uint64_t used;           /* bytes of content */
	uint64_t in_flight;      /* of them, those that are not written yet */
	uint64_t since_count;    /* of them, those that a count may not have seen */
	uint64_t counts;         /* how often the store was counted */
	bool counted;            /* `used` is more than what came since the start */
	bool busy;               /* a thread of ours makes room */
	bool told;               /* somebody was told that it does */
	uint64_t vain_ms;        /* clock_ms() of the last attempt in vain for readers; 0 */
	uint64_t quiet_until_ms; /* nothing was idle: the settings can wait until then */
	int full;                /* see space_state */
	pthread_mutex_t making;  /* one task at a time makes room */
};

static const struct settings *settings(const struct space *s)
{
	return &s->en->slots->settings;
}

static uint64_t low(const struct space *s)
{
	const struct settings *set = settings(s);

	if (set->cache_low && set->cache_low < set->cache_max)
		return set->cache_low;
	return set->cache_max - set->cache_max / 10;
}

/* --- counting --- */

static void obey_settings(struct space *s);

/* Above it eviction begins. */
static uint64_t high(const struct space *s)
{
	return low(s) + (settings(s)->cache_max - low(s)) / 2;
}

static int check(struct space *s, uint64_t bytes, bool waited)
{
	const uint64_t max = settings(s)->cache_max;

	if (max && !s->counted)
		obey_settings(s);
	return max && (!s->counted || s->used + bytes > (waited ? max : high(s))) ? -EDQUOT : 0;
}

int space_closed(struct space *s, uint64_t bytes)
{
	return check(s, bytes, false);
}

int space_take(struct space *s, uint64_t bytes, bool waited)
{
	int r = check(s, bytes, waited);

	if (r < 0)
		return r;
	s->used += bytes;
	s->in_flight += bytes;
	s->since_count += bytes;
	obey_settings(s);
	return 0;
}

static void less(uint64_t *n, uint64_t bytes)
{
	*n -= bytes < *n ? bytes : *n;
}

void space_wrote(struct space *s, uint64_t bytes)
{
	less(&s->in_flight, bytes);
	s->full = 0;
}

void space_give_back(struct space *s, uint64_t bytes)
{
	less(&s->used, bytes);
	less(&s->in_flight, bytes);
	less(&s->since_count, bytes);
}

uint64_t space_counts(const struct space *s)
{
	return s->counts;
}

void space_freed(struct space *s, uint64_t bytes, uint64_t counts)
{
	/* A count since then may have missed it already. */
	if (counts == s->counts)
		less(&s->used, bytes);
}

static int begin_count(void *ctx)
{
	struct space *s = ctx;

	s->since_count = s->in_flight;
	return 0;
}

struct counted {
	struct space *s;
	uint64_t bytes;
};

static int end_count(void *ctx)
{
	const struct counted *c = ctx;

	/* What came meanwhile may be in it twice, until the next count. */
	c->s->used = c->bytes + c->s->since_count;
	c->s->counts++;
	c->s->counted = true;
	return 0;
}

/* In a task. A store that cannot be listed is one of which nothing is known. */
static void count(struct space *s)
{
	_cleanup_free_ struct keep_found *list = NULL;
	struct counted c = {.s = s};
	struct err e = ERR_INIT;
	size_t n = 0;

	loop_call(s->en->loop, begin_count, s);
	if (file_list_found(s->en, KEEP_TAR, &list, &n, &e) < 0) {
		log_warn("counting the store's content: %s", e.text);
		return;
	}
	for (size_t i = 0; i < n; i++)
		c.bytes += layer_resident(s->en, &list[i].key, &list[i].scope);
	loop_call(s->en->loop, end_count, &c);
}

/* --- making room --- */

struct need {
	struct space *s;
	uint64_t bytes; /* that are too much */
	bool fits;      /* nothing is: what was in the way has gone already */
	bool stopping;
	bool awaited; /* by readers */
};

/*
 * How much is too much, on the loop. @bytes are wanted by somebody who waits, so that not all is
 * made at once that the settings want; none for 0.
 */
static int find_need(void *ctx)
{
	struct need *n = ctx;
	struct space *s = n->s;
	const uint64_t max = settings(s)->cache_max, wanted = n->bytes;

	n->stopping = s->en->stopping;
	n->awaited = s->told;
	n->bytes = 0;
	if (max && s->used + wanted > low(s))
		n->bytes = s->used + wanted - low(s);
	n->fits = !max || (s->counted && s->used + wanted <= max);
	if (wanted && n->bytes > STEP)
		n->bytes = s->used + wanted > max + STEP ? s->used + wanted - max : STEP;
	return 0;
}

static bool stopping(void *ctx)
{
	struct need n = {.s = ctx};

	loop_call(n.s->en->loop, find_need, &n);
	return n.stopping;
}

/* What the settings want can take longer than readers may wait: they have a try of their own. */
static bool in_the_way(void *ctx)
{
	struct need n = {.s = ctx};

	loop_call(n.s->en->loop, find_need, &n);
	return n.stopping || n.awaited;
}

/*
 * In a task: room for @bytes, 0: as the settings say. True when they may have some now. What went
 * is told in any case.
 */
static bool make(struct space *s, uint64_t bytes, bool disk, uint64_t *ret_freed)
{
	struct need n = {.s = s, .bytes = bytes};
	struct coldest c = {.freed = 0};
	bool fits;

	pthread_mutex_lock(&s->making);
	if (settings(s)->cache_max)
		count(s);
	loop_call(s->en->loop, find_need, &n);
	fits = n.fits && !disk;
	if (disk && n.bytes < STEP)
		n.bytes = STEP;
	if (disk && n.bytes < bytes)
		n.bytes = bytes;
	if (n.bytes > 0 && !n.stopping)
		c = coldest_evict(s->en, n.bytes, bytes ? stopping : in_the_way, s);
	pthread_mutex_unlock(&s->making);
	*ret_freed = c.freed;
	return fits || c.freed > 0 || c.disturbed;
}

/* --- by a thread of our own --- */

struct job {
	struct space *s;
	uint64_t bytes; /* that readers wait for */
	int err;        /* 0: nobody waits, the settings want it */
	bool disk;
	uint64_t freed;
	bool made;
};

static void judge(struct space *s, const struct job *j, bool cut)
{
	if (j->freed == 0 && !cut && (!s->counted || s->used > high(s)))
		s->quiet_until_ms = clock_ms() + QUIET_MS;
	if (j->made || j->err == 0)
		return;
	s->vain_ms = clock_ms();
	if (!s->full)
		log_error("the store is full (%s), and nothing of it can be evicted",
			  j->disk ? err_words(j->err) : "cache.max");
	s->full = j->err;
}

static void job_done(void *ctx)
{
	struct job *j = ctx;
	struct space *s = j->s;
	bool told = s->told;

	s->busy = s->told = false;
	/* A stop ends it early, and says nothing: who waits does so for the next engine. */
	j->made |= s->en->stopping;
	judge(s, j, told && j->err == 0);
	if (told)
		flight_room(s->en->flight, j->made || j->err == 0 ? 0 : j->err);
	free(j);
}

static void job_run(void *ctx)
{
	struct job *j = ctx;

	j->made = make(j->s, j->bytes, j->disk, &j->freed);
	if (loop_post(j->s->en->loop, job_done, j) < 0) {
		/* Nobody would ever look for room again; the next engine does. */
		log_error("out of memory");
		_exit(EXIT_FAILURE);
	}
}

static bool start_job(struct space *s, uint64_t bytes, int err, bool disk)
{
	struct job *j = malloc(sizeof(*j));

	if (!j)
		return false;
	*j = (struct job){.s = s, .bytes = bytes, .err = err, .disk = disk};
	if (s->en->stopping || engine_task(job_run, j) < 0) {
		free(j);
		return false;
	}
	s->busy = true;
	return true;
}

/* Half-way between the two marks: down to the lower one. */
static void obey_settings(struct space *s)
{
	const uint64_t max = settings(s)->cache_max;

	if (!max || s->busy || clock_ms() < s->quiet_until_ms)
		return;
	if (!s->counted || s->used > high(s))
		(void)start_job(s, 0, 0, false);
}

bool space_want(struct space *s, uint64_t bytes, int err, bool disk)
{
	if (!s->busy && s->vain_ms && clock_ms() - s->vain_ms < VAIN_MS)
		return false;
	if (!s->busy && !start_job(s, bytes, err, disk))
		return false;
	s->told = true;
	return true;
}

bool space_busy(const struct space *s)
{
	return s->busy;
}

static void look(void *ctx)
{
	struct space *s = ctx;

	s->look = NULL;
	obey_settings(s);
	loop_after(s->en->loop, LOOK_MS, look, s, &s->look);
}

struct space_state space_state(const struct space *s)
{
	const uint64_t max = settings(s)->cache_max;

	return (struct space_state){.used = s->counted ? s->used : 0,
				    .max = max,
				    .low = max ? low(s) : 0,
				    .full = s->full};
}

bool space_make(struct engine *en, uint64_t bytes, bool disk)
{
	uint64_t freed;

	return make(en->space, bytes, disk, &freed);
}

/* --- start --- */

int space_new(struct engine *en, struct space **ret)
{
	struct space *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->en = en;
	pthread_mutex_init(&s->making, NULL);
	if (loop_after(en->loop, LOOK_MS, look, s, &s->look) < 0) {
		space_free(s);
		return -ENOMEM;
	}
	*ret = s;
	return 0;
}

struct space *space_free(struct space *s)
{
	if (!s)
		return NULL;
	if (s->look)
		loop_cancel(s->look);
	pthread_mutex_destroy(&s->making);
	free(s);
	return NULL;
}
