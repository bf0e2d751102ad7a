/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "oci/base/digest.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/load.h"
#include "plugin/store/load_impl.h"

/* The kernel frees a superblock some time after its last user; a stuck one is asked seldom. */
#define AGAIN_MIN_MS 100
#define AGAIN_MAX_MS 30000

/* A layer that is to be unmounted. */
struct corpse {
	struct engine *en; /* borrowed */
	struct digest diff_id, scope;
	uint64_t due_ms;
	uint64_t delay_ms; /* before the next try */
	struct corpse *next;
};

/* One thread for all of them; it ends when there are none. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct corpse *corpses; /* owned */
static bool running;

static struct corpse **first_due(void)
{
	struct corpse **best = NULL;

	for (struct corpse **c = &corpses; *c; c = &(*c)->next)
		if (!best || (*c)->due_ms < (*best)->due_ms)
			best = c;
	return best;
}

static void wait_ms(uint64_t ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_cond_timedwait(&changed, &lock, &until);
}

/* Tries; one that is still in use goes back into the list. */
static void reap(struct corpse *c)
{
	int r;

	pthread_mutex_unlock(&lock);
	r = layer_umount_idle(c->en, &c->diff_id, &c->scope);
	pthread_mutex_lock(&lock);
	if (r == 0) {
		free(c);
		return;
	}
	c->delay_ms = c->delay_ms * 2 > AGAIN_MAX_MS ? AGAIN_MAX_MS : c->delay_ms * 2;
	c->due_ms = clock_ms() + c->delay_ms;
	c->next = corpses;
	corpses = c;
}

static void *reaper_main(void *unused)
{
	struct corpse **at, *c;

	pthread_mutex_lock(&lock);
	while ((at = first_due())) {
		uint64_t now = clock_ms();

		if ((*at)->due_ms > now) {
			wait_ms((*at)->due_ms - now);
			continue;
		}
		c = *at;
		*at = c->next;
		reap(c);
	}
	running = false;
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void start(void)
{
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, reaper_main, NULL) == 0) {
		pthread_detach(thread);
		running = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void layer_reap(struct engine *en, const struct digest *diff_id, const struct digest *scope)
{
	struct corpse *c = calloc(1, sizeof(*c));
	char text[DIGEST_TEXT];

	if (!c) {
		log_warn("layer %s stays mounted: out of memory", digest_text(diff_id, text));
		return;
	}
	c->en = en;
	c->diff_id = *diff_id;
	c->scope = *scope;
	c->delay_ms = AGAIN_MIN_MS;
	pthread_mutex_lock(&lock);
	c->next = corpses;
	corpses = c;
	if (!running)
		start();
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}
