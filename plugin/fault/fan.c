/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fault/fan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "oci/base/err.h"
#include "plugin/uapi.h"

/*
 * A queue without end, because one that is full loses an answer: fanotify_handle_event() allows
 * what it cannot queue (fs/notify/fanotify/fanotify.c: "ret = 0" after fsnotify_insert_event()
 * said overflow), and the reader sees a hole's zeros. With FAN_UNLIMITED_QUEUE, which needs
 * CAP_SYS_ADMIN, max_events is UINT_MAX, whatever fs.fanotify.max_queued_events says, and an event
 * is allocated with __GFP_NOFAIL; each needs a thread that waits, so there are never as many.
 * Shown by tests/kernel/load.bats, with that limit at 4.
 */
#define GROUP_FLAGS (FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS)

static int open_group(unsigned int event_flags, int *ret_fd, struct err *e)
{
	int fd = fanotify_init(FAN_CLASS_PRE_CONTENT | GROUP_FLAGS, event_flags);

	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	if (errno == EINVAL || errno == ENOSYS)
		return err_set(e, -EOPNOTSUPP,
			       "this kernel has no fanotify pre-content class; Linux 6.14 or newer "
			       "with CONFIG_FANOTIFY_ACCESS_PERMISSIONS is needed");
	return err_errno(e, -errno, "fanotify_init");
}

int fan_open_content(int *ret_fd, struct err *e)
{
	return open_group(O_RDWR | O_LARGEFILE | O_CLOEXEC, ret_fd, e);
}

int fan_open_exec(int *ret_fd, struct err *e)
{
	return open_group(O_RDONLY | O_LARGEFILE | O_CLOEXEC, ret_fd, e);
}

/*
 * A mark by descriptor: fanotify_mark(2) takes a NULL path for "what dirfd is open on", but not for
 * O_PATH descriptors, which is what fsmount(2) gives; their magic link serves both.
 */
static int mark_fd(int group, unsigned int flags, uint64_t mask, int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fanotify_mark(group, flags, mask, AT_FDCWD, path) < 0 ? -errno : 0;
}

int fan_mark_content(int group, int fd, bool on)
{
	int r = mark_fd(group, on ? FAN_MARK_ADD : FAN_MARK_REMOVE, FAN_PRE_ACCESS, fd);

	return !on && r == -ENOENT ? 0 : r;
}

int fan_mark_fs(int group, int mount_fd, uint64_t mask)
{
	const uint64_t all = FAN_OPEN_EXEC_PERM | FAN_OPEN_PERM;
	uint64_t off = all & ~mask;
	int r = 0;

	if (mask)
		r = mark_fd(group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, mount_fd);
	if (r < 0 || !off)
		return r;
	r = mark_fd(group, FAN_MARK_REMOVE | FAN_MARK_FILESYSTEM, off, mount_fd);
	return r == -ENOENT ? 0 : r; /* there is no mark to be removed */
}

/* #syscalls engine anchor: write */
int fan_answer(int group, int fd, uint32_t response)
{
	const struct fanotify_response rsp = {.fd = fd, .response = response};
	ssize_t n;

	do
		n = write(group, &rsp, sizeof(rsp));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

bool fan_errno_supported(int group, int err)
{
	return fan_answer(group, INT_MAX, FAN_DENY_WITH(err)) == -ENOENT;
}
