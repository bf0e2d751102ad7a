/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_CLEANUP_H
#define OCI_BASE_CLEANUP_H

/*
 * Locals that clean up after themselves, and the two ways to hand their content over.
 *
 *	_cleanup_fd_ int fd = open(...);
 *	_cleanup_free_ char *s = strdup(...);
 *	*ret_fd = take_fd(&fd);
 *
 * A module whose object has a foo_free() declares its own cleanup macro beside it with
 * DEFINE_CLEANUP(struct foo, foo_free), used as `_cleanup_(foo_freep) struct foo *f = NULL`.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn)  __attribute__((cleanup(fn)))
#define _cleanup_fd_   _cleanup_(cleanup_closep)
#define _cleanup_free_ _cleanup_(cleanup_freep)
#define _must_check_   __attribute__((warn_unused_result))
#define _unused_       __attribute__((unused))

static inline void cleanup_closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_freep(void *p)
{
	free(*(void **)p);
}

#define DEFINE_CLEANUP(type, fn)                                                                   \
	static inline void fn##p(type **p)                                                         \
	{                                                                                          \
		if (*p)                                                                            \
			fn(*p);                                                                    \
	}

static inline int take_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

#define take_ptr(p)                                                                                \
	({                                                                                         \
		__typeof__(p) _v = (p);                                                            \
		(p) = NULL;                                                                        \
		_v;                                                                                \
	})

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
