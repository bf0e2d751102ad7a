/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_DUE_H
#define PLUGIN_STORE_DUE_H

#include <pthread.h>
#include <stdint.h>

/* Things to be done at a time by a thread that ends when there are none; embedded, first in them.
 */
struct due {
	uint64_t at_ms; /* clock_ms() */
	struct due *next;
};

struct due_list {
	pthread_mutex_t lock;   /* guards the list, and what its user keeps beside it */
	pthread_cond_t changed; /* to be broadcast when something is put in or taken out */
	struct due *first;      /* in no order */
};
#define DUE_LIST_INIT                                                                              \
	{                                                                                          \
		.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER             \
	}

/* With the lock held. */
static inline void due_put(struct due_list *l, struct due *d)
{
	d->next = l->first;
	l->first = d;
	pthread_cond_broadcast(&l->changed);
}

/* With the lock held, which others get while it waits: takes out the first that is due, or NULL. */
struct due *due_take(struct due_list *l);

#endif
