/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked into tarnd-failing and tarn-failing: allocations and system calls, also those that
 * libraries make, of which the one that TARN_FAILING's file names fails, once, as it may any day.
 * What cannot fail is left alone: closing, answering events, counting an eventfd up.
 */
#undef _FORTIFY_SOURCE
#include "tests/torture/failing.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>

#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

#include "oci/base/cleanup.h"
#include "plugin/log.h"

#define LOOK_MAX 24 /* frames looked at: those of libraries do not count */

extern char __executable_start, etext;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __real_log_init(const char *process, enum log_level level);
void __wrap_log_init(const char *process, enum log_level level);

static struct failing *failing; /* NULL: nothing fails */
static uint32_t role;
static __thread bool inside;

static void set_role(const char *name)
{
	static const char *const roles[] = {FAILING_ROLES};

	for (uint32_t i = 0; i < ARRAY_LEN(roles); i++)
		if (!strcmp(roles[i], name))
			role = i;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("TARN_FAILING");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *mem;

	set_role(strcmp(program_invocation_short_name, "tarn-failing") ? "start" : "cli");
	if (fd < 0)
		return;
	mem = mmap(NULL, sizeof(*failing), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	failing = mem == MAP_FAILED ? NULL : mem;
}

/* Each process says so who it is: tarnd[engine]. */
void __wrap_log_init(const char *process, enum log_level level)
{
	char name[16] = "";
	size_t n = strcspn(process, "[");

	if (process[n]) {
		snprintf(name, sizeof(name), "%s", process + n + 1);
		name[strcspn(name, "]")] = '\0';
		set_role(name);
	}
	__real_log_init(process, level);
}

struct walk {
	uint64_t at[FAILING_DEPTH];
	unsigned n, seen;
};

static _Unwind_Reason_Code one_frame(struct _Unwind_Context *ctx, void *arg)
{
	struct walk *w = arg;
	uintptr_t ip = _Unwind_GetIP(ctx);

	/* The first two are ours. */
	if (w->seen++ > 1 && ip >= (uintptr_t)&__executable_start && ip < (uintptr_t)&etext)
		w->at[w->n++] = ip - (uintptr_t)&__executable_start;
	return w->n == FAILING_DEPTH || w->seen == LOOK_MAX ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static uint64_t site_id(const char *call, const struct walk *w)
{
	uint64_t h = 14695981039346656037u ^ role;

	for (; *call; call++)
		h = (h ^ (unsigned char)*call) * 1099511628211u;
	for (unsigned i = 0; i < w->n; i++)
		h = (h ^ w->at[i]) * 1099511628211u;
	return h | 1;
}

static void write_down(uint64_t id, const char *call)
{
	for (uint32_t i = 0; i < FAILING_SITES; i++) {
		struct failing_site *s = &failing->sites[(id + i) % FAILING_SITES];
		uint64_t none = 0;

		if (atomic_compare_exchange_strong(&s->id, &none, id)) {
			atomic_store(&s->role, role);
			snprintf(s->call, sizeof(s->call), "%s", call);
			none = id;
		}
		if (none == id) {
			atomic_fetch_add(&s->times, 1);
			return;
		}
	}
}

static bool is_wanted(const char *call, uint64_t id)
{
	uint64_t site = atomic_load(&failing->site);

	return atomic_load(&failing->role) == role + 1 &&
	       (site ? site == id : !strcmp(failing->wanted, call));
}

static bool is_due(const char *call)
{
	struct walk w = {.n = 0};
	uint64_t id;

	_Unwind_Backtrace(one_frame, &w);
	id = site_id(call, &w);
	if (atomic_load(&failing->record) & 1u << role)
		write_down(id, call);
	if (!is_wanted(call, id) || atomic_fetch_sub(&failing->skip, 1) != 0)
		return false;
	atomic_store(&failing->role, 0);
	memcpy(failing->at, w.at, sizeof(w.at));
	snprintf(failing->call, sizeof(failing->call), "%s", call);
	atomic_fetch_add(&failing->fired, 1);
	return true;
}

static __attribute__((noinline)) bool fails(const char *call, int err)
{
	bool due;

	if (!failing || inside ||
	    !(atomic_load(&failing->record) & 1u << role ||
	      atomic_load(&failing->role) == role + 1))
		return false;
	inside = true;
	due = is_due(call);
	inside = false;
	if (due)
		errno = atomic_load(&failing->err) ? atomic_load(&failing->err) : err;
	return due;
}

/* --- memory --- */

void *malloc(size_t n)
{
	return fails("malloc", ENOMEM) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return fails("calloc", ENOMEM) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return fails("realloc", ENOMEM) ? NULL : __libc_realloc(p, n);
}

void *reallocarray(void *p, size_t n, size_t size)
{
	size_t all;

	if (__builtin_mul_overflow(n, size, &all) || fails("reallocarray", ENOMEM))
		return NULL;
	return __libc_realloc(p, all);
}

/* --- system calls; the names are those of the library, for files of any size --- */

#define STR(x) #x
#define CALL(type, name, symbol, err, proto, args)                                                 \
	type name proto                                                                            \
	{                                                                                          \
		static type(*real) proto;                                                          \
                                                                                                   \
		if (fails(#name, err))                                                             \
			return (type)-1;                                                           \
		if (!real)                                                                         \
			real = (type(*) proto)dlsym(RTLD_NEXT, symbol);                            \
		return real args;                                                                  \
	}

#define FILES(type, name, err, proto, args) CALL(type, name, STR(name) "64", err, proto, args)
#define PLAIN(type, name, err, proto, args) CALL(type, name, STR(name), err, proto, args)

int open(const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fails("open", EMFILE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fails("openat", EMFILE) ? -1 : (int)syscall(SYS_openat, dir, path, flags, mode);
}

int fcntl(int fd, int cmd, ...)
{
	static int (*real)(int, int, ...);
	void *arg;
	va_list ap;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (cmd != F_GETFL && cmd != F_SETFL && fails("fcntl", cmd == F_SETLEASE ? EAGAIN : EMFILE))
		return -1;
	if (!real)
		real = (int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl64");
	return real(fd, cmd, arg);
}

int ioctl(int fd, unsigned long what, ...)
{
	static int (*real)(int, unsigned long, ...);
	void *arg;
	va_list ap;

	va_start(ap, what);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (fails("ioctl", EIO))
		return -1;
	if (!real)
		real = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	return real(fd, what, arg);
}

/* What tarn calls by number: mounts, processes. */
long syscall(long nr, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (nr != SYS_openat && nr != SYS_pidfd_send_signal &&
	    fails(nr == SYS_clone3 ? "clone3" : "syscall", nr == SYS_clone3 ? EAGAIN : ENOMEM))
		return -1;
	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	return real(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	static ssize_t (*real)(int, const void *, size_t);

	/* 8 bytes: an answer to the kernel, or an eventfd's count. */
	if (fd > STDERR_FILENO && n != 8 && fails("write", ENOSPC))
		return -1;
	if (!real)
		real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	return real(fd, buf, n);
}

/* Of a directory it makes a name last, and not what is in a file. */
int fsync(int fd)
{
	static int (*real)(int);
	struct stat st;
	bool dir;

	inside = true;
	dir = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	inside = false;
	if (fails(dir ? "fsync-dir" : "fsync", EIO))
		return -1;
	if (!real)
		real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
	return real(fd);
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (fails("pthread_create", EAGAIN))
		return EAGAIN;
	if (!real)
		real = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
				void *))dlsym(RTLD_NEXT, "pthread_create");
	return real(t, attr, fn, arg);
}

void *mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	if (fails("mmap", ENOMEM))
		return MAP_FAILED;
	return (void *)syscall(SYS_mmap, at, n, prot, flags, fd, off);
}

DIR *fdopendir(int fd)
{
	static DIR *(*real)(int);

	if (fails("fdopendir", ENOMEM))
		return NULL;
	if (!real)
		real = (DIR * (*)(int)) dlsym(RTLD_NEXT, "fdopendir");
	return real(fd);
}

PLAIN(ssize_t, read, EIO, (int fd, void *buf, size_t n), (fd, buf, n))
FILES(ssize_t, pread, EIO, (int fd, void *buf, size_t n, off_t off), (fd, buf, n, off))
FILES(ssize_t, pwrite, ENOSPC, (int fd, const void *buf, size_t n, off_t off), (fd, buf, n, off))
FILES(int, fstat, EIO, (int fd, struct stat *st), (fd, st))
FILES(int, fstatat, EIO, (int dir, const char *name, struct stat *st, int flags),
      (dir, name, st, flags))
FILES(int, fstatvfs, EIO, (int fd, struct statvfs *st), (fd, st))
FILES(int, ftruncate, ENOSPC, (int fd, off_t size), (fd, size))
FILES(int, fallocate, ENOSPC, (int fd, int mode, off_t off, off_t len), (fd, mode, off, len))
FILES(off_t, lseek, EIO, (int fd, off_t off, int whence), (fd, off, whence))
PLAIN(int, fdatasync, EIO, (int fd), (fd))
PLAIN(int, flock, EINTR, (int fd, int op), (fd, op))
PLAIN(int, renameat, ENOSPC, (int from, const char *a, int to, const char *b), (from, a, to, b))
PLAIN(int, unlinkat, EIO, (int dir, const char *name, int flags), (dir, name, flags))
PLAIN(int, mkdirat, ENOSPC, (int dir, const char *name, mode_t mode), (dir, name, mode))
PLAIN(int, fchown, EIO, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
PLAIN(int, fchmod, EIO, (int fd, mode_t mode), (fd, mode))
PLAIN(int, name_to_handle_at, ENOMEM,
      (int dir, const char *name, struct file_handle *h, int *id, int flags),
      (dir, name, h, id, flags))
PLAIN(int, open_by_handle_at, ENOMEM, (int dir, struct file_handle *h, int flags), (dir, h, flags))
PLAIN(int, memfd_create, EMFILE, (const char *name, unsigned flags), (name, flags))
PLAIN(int, eventfd, EMFILE, (unsigned n, int flags), (n, flags))
PLAIN(int, pipe2, EMFILE, (int fds[2], int flags), (fds, flags))
PLAIN(int, dup2, EMFILE, (int from, int to), (from, to))
PLAIN(int, dup3, EMFILE, (int from, int to, int flags), (from, to, flags))
PLAIN(int, socket, EMFILE, (int family, int type, int proto), (family, type, proto))
PLAIN(int, socketpair, EMFILE, (int family, int type, int proto, int fds[2]),
      (family, type, proto, fds))
PLAIN(int, bind, EADDRINUSE, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
PLAIN(int, listen, EADDRINUSE, (int fd, int n), (fd, n))
PLAIN(int, connect, ECONNREFUSED, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
PLAIN(int, accept4, EMFILE, (int fd, struct sockaddr *a, socklen_t *n, int flags),
      (fd, a, n, flags))
PLAIN(int, setsockopt, ENOMEM, (int fd, int level, int name, const void *v, socklen_t n),
      (fd, level, name, v, n))
PLAIN(int, getsockopt, ENOMEM, (int fd, int level, int name, void *v, socklen_t *n),
      (fd, level, name, v, n))
PLAIN(ssize_t, send, ENOBUFS, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags))
PLAIN(ssize_t, sendto, ENOBUFS,
      (int fd, const void *buf, size_t n, int flags, const struct sockaddr *a, socklen_t an),
      (fd, buf, n, flags, a, an))
PLAIN(ssize_t, sendmsg, ENOBUFS, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
PLAIN(ssize_t, recv, ENOMEM, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags))
PLAIN(ssize_t, recvmsg, ENOMEM, (int fd, struct msghdr *m, int flags), (fd, m, flags))
PLAIN(int, poll, EINTR, (struct pollfd * p, nfds_t n, int ms), (p, n, ms))
PLAIN(int, ppoll, EINTR,
      (struct pollfd * p, nfds_t n, const struct timespec *t, const sigset_t *mask),
      (p, n, t, mask))
PLAIN(int, epoll_create1, EMFILE, (int flags), (flags))
PLAIN(int, epoll_ctl, ENOMEM, (int ep, int op, int fd, struct epoll_event *ev), (ep, op, fd, ev))
PLAIN(int, epoll_wait, EINTR, (int ep, struct epoll_event *ev, int n, int ms), (ep, ev, n, ms))
PLAIN(int, fanotify_init, EMFILE, (unsigned flags, unsigned event_flags), (flags, event_flags))
PLAIN(int, fanotify_mark, ENOMEM,
      (int group, unsigned flags, uint64_t mask, int dir, const char *path),
      (group, flags, mask, dir, path))
PLAIN(int, inotify_init1, EMFILE, (int flags), (flags))
PLAIN(int, inotify_add_watch, ENOSPC, (int fd, const char *path, uint32_t mask), (fd, path, mask))
PLAIN(pid_t, fork, EAGAIN, (void), ())
PLAIN(pid_t, waitpid, EINTR, (pid_t pid, int *status, int options), (pid, status, options))
