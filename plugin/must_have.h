/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_MUST_HAVE_H
#define PLUGIN_MUST_HAVE_H

#include <stdlib.h>
#include <unistd.h>

/*
 * malloc(3) that waits until there is memory; the caller's to free. For what nobody would ask for
 * again: a timer or a result that is lost is a reader, or the next process, that nobody comes back
 * to. (Few programs ever see malloc(3) fail.)
 */
static inline void *must_have(size_t size)
{
	void *p;

	while (!(p = malloc(size)))
		usleep(10000);
	return p;
}

#endif
