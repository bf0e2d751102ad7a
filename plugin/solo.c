/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/solo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

#define NAME     "engine.lock"
#define WAIT_MS  2000 /* an engine that nothing needs has noticed and ended by then */
#define LOOK_MS  20
#define TEXT_MAX 32

/* It is read-only: the engine has no business to write there. */
static int open_lock(int store)
{
	int fd = openat(store, NAME, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

/* For messages and solo_end(): over what is there, for which a full disk has room. */
static void write_owner(int store)
{
	_cleanup_fd_ int fd = openat(store, NAME, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[TEXT_MAX];
	int n = snprintf(text, sizeof(text), "%-*d\n", TEXT_MAX - 2, getpid());

	if (fd >= 0)
		fd_write_full(fd, text, (size_t)n);
}

int solo_take(int store, struct err *e)
{
	_cleanup_fd_ int fd = open_lock(store);

	if (fd < 0)
		return err_errno(e, fd, "store: " NAME);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "another engine serves this store");
	write_owner(store);
	return take_fd(&fd);
}

bool solo_lives(int store)
{
	_cleanup_fd_ int fd = open_lock(store);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return true;
	/* Another thread's fork may have a copy of the descriptor for a moment. */
	flock(fd, LOCK_UN);
	return false;
}

/* What write_owner() left, as text; "": nothing. */
static void read_owner(int fd, char out[TEXT_MAX + 1])
{
	ssize_t n = pread(fd, out, TEXT_MAX, 0);

	while (n > 0 && (out[n - 1] < '0' || out[n - 1] > '9'))
		n--;
	out[n > 0 ? n : 0] = '\0';
}

static int served_alone(int fd, const char *path, struct err *e)
{
	char text[TEXT_MAX + 1];

	read_owner(fd, text);
	return err_set(e, -EBUSY,
		       "store %s: guardian and keeper of an earlier tarnd were killed at once, and "
		       "its engine serves the containers that run: stop these, see that process %s "
		       "ends, and "
		       "start tarnd again",
		       path, text[0] ? text : "tarnd");
}

void solo_end(int store, pid_t anchor)
{
	_cleanup_fd_ int fd = open_lock(store);
	_cleanup_fd_ int pidfd = anchor > 0 ? (int)syscall(SYS_pidfd_open, anchor, 0) : -1;
	char text[TEXT_MAX + 1];

	if (fd < 0 || pidfd < 0)
		return;
	read_owner(fd, text);
	/* In this order: it lived when we had hold of it, so that it is nobody else. */
	if (strtol(text, NULL, 10) == anchor && solo_lives(store))
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

int solo_check(int store, const char *path, struct err *e)
{
	_cleanup_fd_ int fd = open_lock(store);

	if (fd < 0)
		return err_errno(e, fd, "store %s: " NAME, path);
	for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited += LOOK_MS) {
		if (waited >= WAIT_MS)
			return served_alone(fd, path, e);
		usleep(LOOK_MS * 1000);
	}
	return 0;
}
