/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/gate.h"

#include <pthread.h>

static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

void gate_share(void)
{
	pthread_rwlock_rdlock(&gate);
}

void gate_share_end(void)
{
	pthread_rwlock_unlock(&gate);
}

bool gate_close(void)
{
	return pthread_rwlock_trywrlock(&gate) == 0;
}

void gate_open(void)
{
	pthread_rwlock_unlock(&gate);
}
