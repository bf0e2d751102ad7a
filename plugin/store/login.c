/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "plugin/store/sources.h"

/* Repositories whose password is remembered; the oldest is forgotten when there are more. */
#define LOGINS_MAX 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct registry_at *logins; /* LOGINS_MAX of them, made by the first; guarded by lock */
static size_t count;

static struct registry_at *find(const struct registry_at *at)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(logins[i].host, at->host) == 0 && strcmp(logins[i].repo, at->repo) == 0)
			return &logins[i];
	return NULL;
}

void login_remember(const struct registry_at *at)
{
	struct registry_at *slot;

	if (!at->user[0])
		return;
	pthread_mutex_lock(&lock);
	if (!logins)
		logins = calloc(LOGINS_MAX, sizeof(*logins));
	if (logins) {
		slot = find(at);
		if (!slot && count == LOGINS_MAX) {
			memmove(&logins[0], &logins[1], (LOGINS_MAX - 1) * sizeof(*logins));
			count--;
		}
		if (!slot)
			slot = &logins[count++];
		*slot = *at;
	}
	pthread_mutex_unlock(&lock);
}

void login_recall(struct registry_at *at)
{
	const struct registry_at *known;

	pthread_mutex_lock(&lock);
	known = find(at);
	if (known) {
		memcpy(at->user, known->user, sizeof(at->user));
		memcpy(at->secret, known->secret, sizeof(at->secret));
	}
	pthread_mutex_unlock(&lock);
}
