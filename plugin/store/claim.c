/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/claim.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

/* How often a waiting task looks whether its client is still there. */
#define LOOK_MS 200

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list and all in it */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct claim *claims;

static bool taken(const struct claim *c)
{
	for (const struct claim *o = claims; o; o = o->next)
		if (o->kind == c->kind && digest_equal(&o->key, &c->key))
			return true;
	return false;
}

static void wait_a_little(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += LOOK_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_cond_timedwait(&changed, &lock, &until);
}

static int take(struct claim *c, enum claim_kind kind, const struct digest *key, bool wait,
		bool (*cancelled)(void *ctx), void *ctx)
{
	int r = 0;

	memset(c, 0, sizeof(*c));
	c->kind = kind;
	if (key)
		c->key = *key;
	pthread_mutex_lock(&lock);
	while (r == 0 && taken(c)) {
		if (!wait)
			r = -EBUSY;
		else
			wait_a_little();
		if (r == 0 && cancelled) {
			pthread_mutex_unlock(&lock);
			r = cancelled(ctx) ? -EPIPE : 0;
			pthread_mutex_lock(&lock);
		}
	}
	if (r == 0) {
		c->held = true;
		c->next = claims;
		claims = c;
	}
	pthread_mutex_unlock(&lock);
	return r;
}

int claim_take(struct claim *c, enum claim_kind kind, const struct digest *key,
	       bool (*cancelled)(void *ctx), void *ctx)
{
	return take(c, kind, key, true, cancelled, ctx);
}

int claim_try(struct claim *c, enum claim_kind kind, const struct digest *key)
{
	return take(c, kind, key, false, NULL, NULL);
}

void claim_put(struct claim *c)
{
	if (!c->held)
		return;
	pthread_mutex_lock(&lock);
	for (struct claim **p = &claims; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	c->held = false;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}
