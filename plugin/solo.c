/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/solo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
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

/* Who has it, for messages. */
static void write_owner(int store)
{
	_cleanup_fd_ int fd = openat(store, NAME, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	char text[TEXT_MAX];
	int n = snprintf(text, sizeof(text), "%d\n", getpid());

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

static int served_alone(int fd, const char *path, struct err *e)
{
	char text[TEXT_MAX + 1] = "";
	ssize_t n = pread(fd, text, TEXT_MAX, 0);

	while (n > 0 && (text[n - 1] < '0' || text[n - 1] > '9'))
		text[--n] = '\0';
	return err_set(e, -EBUSY,
		       "store %s: guardian and keeper of an earlier tarnd were killed at once, and "
		       "its engine serves the containers that run: stop these, see that process %s "
		       "ends, and "
		       "start tarnd again",
		       path, n > 0 ? text : "tarnd");
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
