/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "oci/base/digest.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/must_have.h"
#include "plugin/store/due.h"
#include "plugin/store/load.h"
#include "plugin/store/load_impl.h"

/* The kernel frees a superblock some time after its last user; a stuck one is asked seldom. */
#define AGAIN_MIN_MS 100
#define AGAIN_MAX_MS 30000

/* A layer that is to be unmounted. */
struct corpse {
	struct due due;
	struct engine *en; /* borrowed */
	struct digest diff_id, scope;
	uint64_t delay_ms; /* before the next try */
};

/* One thread for all of them; it ends when there are none. */
static struct due_list corpses = DUE_LIST_INIT; /* owned */
static bool running;                            /* under the list's lock */

/* Tries; one that is still in use goes back into the list. */
static void reap(struct corpse *c)
{
	int r;

	pthread_mutex_unlock(&corpses.lock);
	r = layer_umount_idle(c->en, &c->diff_id, &c->scope);
	pthread_mutex_lock(&corpses.lock);
	if (r == 0) {
		free(c);
		return;
	}
	c->delay_ms = c->delay_ms * 2 > AGAIN_MAX_MS ? AGAIN_MAX_MS : c->delay_ms * 2;
	c->due.at_ms = clock_ms() + c->delay_ms;
	due_put(&corpses, &c->due);
}

static void *reaper_main(void *unused)
{
	struct due *d;

	pthread_mutex_lock(&corpses.lock);
	while ((d = due_take(&corpses)))
		reap((struct corpse *)d);
	running = false;
	pthread_mutex_unlock(&corpses.lock);
	return NULL;
}

static void begin(struct engine *en);

/* On the loop. */
static void begin_again(void *ctx)
{
	pthread_mutex_lock(&corpses.lock);
	if (!running && corpses.first)
		begin(ctx);
	pthread_mutex_unlock(&corpses.lock);
}

static void begin_later(void *ctx)
{
	struct engine *en = ctx;

	loop_after(en->loop, AGAIN_MIN_MS, begin_again, en, NULL);
}

/* With the list's lock held. Where there can be no thread now, there may be one soon. */
static void begin(struct engine *en)
{
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, NULL, reaper_main, NULL) == 0) {
		pthread_detach(thread);
		running = true;
	} else {
		loop_post(en->loop, begin_later, en);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void layer_reap(struct engine *en, const struct digest *diff_id, const struct digest *scope)
{
	/* Nobody asks again: given up, the layer would stay mounted for as long as we are there. */
	struct corpse *c = must_have(sizeof(*c));

	*c = (struct corpse){
		.en = en, .diff_id = *diff_id, .scope = *scope, .delay_ms = AGAIN_MIN_MS};
	pthread_mutex_lock(&corpses.lock);
	due_put(&corpses, &c->due);
	if (!running)
		begin(en);
	pthread_mutex_unlock(&corpses.lock);
}
