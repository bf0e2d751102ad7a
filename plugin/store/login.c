/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <string.h>

#include "plugin/fault/slots.h"
#include "plugin/store/sources.h"

/* Between the threads of one engine. One that was killed while it wrote leaves a wrong password. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t count(const struct slots *t)
{
	return t->nlogins < SLOTS_LOGINS ? t->nlogins : SLOTS_LOGINS;
}

static struct registry_at *find(struct slots *t, const struct registry_at *at)
{
	for (uint32_t i = 0; i < count(t); i++)
		if (strncmp(t->login[i].host, at->host, sizeof(at->host)) == 0 &&
		    strncmp(t->login[i].repo, at->repo, sizeof(at->repo)) == 0)
			return &t->login[i];
	return NULL;
}

static struct registry_at *make_room(struct slots *t)
{
	uint32_t n = count(t);

	if (n == SLOTS_LOGINS) {
		memmove(&t->login[0], &t->login[1], (SLOTS_LOGINS - 1) * sizeof(t->login[0]));
		return &t->login[n - 1];
	}
	t->nlogins = n + 1;
	return &t->login[n];
}

void login_remember(struct slots *t, const struct registry_at *at)
{
	struct registry_at *known;

	if (!at->user[0])
		return;
	pthread_mutex_lock(&lock);
	known = find(t, at);
	if (!known)
		known = make_room(t);
	*known = *at;
	pthread_mutex_unlock(&lock);
}

void login_recall(struct slots *t, struct registry_at *at)
{
	const struct registry_at *known;

	pthread_mutex_lock(&lock);
	known = find(t, at);
	if (known) {
		memcpy(at->user, known->user, sizeof(at->user));
		memcpy(at->secret, known->secret, sizeof(at->secret));
	}
	pthread_mutex_unlock(&lock);
}
