/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FAILPOINT_H
#define TESTS_UNIT_FAILPOINT_H

/*
 * Allocations and system calls that our own code makes, of which the n-th fails. For one source
 * file, whose link line wraps what is listed here. Include cmocka.h first.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long fail_count, fail_at; /* 0: none */

static bool fail_now(int err)
{
	if (!fail_at || ++fail_count != fail_at)
		return false;
	errno = err;
	return true;
}

#define FAILPOINT(type, name, bad, err, proto, args)                                               \
	type __real_##name proto;                                                                  \
	type __wrap_##name proto;                                                                  \
	type __wrap_##name proto                                                                   \
	{                                                                                          \
		return fail_now(err) ? (bad) : __real_##name args;                                 \
	}

FAILPOINT(void *, malloc, NULL, ENOMEM, (size_t n), (n))
FAILPOINT(void *, calloc, NULL, ENOMEM, (size_t n, size_t size), (n, size))
FAILPOINT(void *, realloc, NULL, ENOMEM, (void *p, size_t n), (p, n))
FAILPOINT(void *, reallocarray, NULL, ENOMEM, (void *p, size_t n, size_t size), (p, n, size))
FAILPOINT(char *, strdup, NULL, ENOMEM, (const char *s), (s))
FAILPOINT(char *, strndup, NULL, ENOMEM, (const char *s, size_t n), (s, n))
FAILPOINT(ssize_t, read, -1, EIO, (int fd, void *buf, size_t n), (fd, buf, n))
FAILPOINT(ssize_t, pread64, -1, EIO, (int fd, void *buf, size_t n, off64_t off), (fd, buf, n, off))
FAILPOINT(ssize_t, write, -1, ENOSPC, (int fd, const void *buf, size_t n), (fd, buf, n))
FAILPOINT(ssize_t, pwrite64, -1, ENOSPC, (int fd, const void *buf, size_t n, off64_t off),
	  (fd, buf, n, off))
FAILPOINT(int, fstat64, -1, EIO, (int fd, struct stat64 *st), (fd, st))
FAILPOINT(int, ftruncate64, -1, ENOSPC, (int fd, off64_t n), (fd, n))
FAILPOINT(int, fsync, -1, EIO, (int fd), (fd))
FAILPOINT(int, renameat, -1, ENOSPC, (int from, const char *a, int to, const char *b),
	  (from, a, to, b))
FAILPOINT(void *, mmap64, MAP_FAILED, ENOMEM,
	  (void *at, size_t n, int prot, int flags, int fd, off64_t off),
	  (at, n, prot, flags, fd, off))
FAILPOINT(int, memfd_create, -1, EMFILE, (const char *name, unsigned flags), (name, flags))

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fail_now(EMFILE) ? -1 : __real_open64(path, flags, mode);
}

int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fail_now(EMFILE) ? -1 : __real_openat64(dir, path, flags, mode);
}

#endif
