/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/target.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hooks/mnt.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

void target_close(struct target *t)
{
	cleanup_closep(&t->pidfd);
	cleanup_closep(&t->proc);
	cleanup_closep(&t->rootfs);
	free(t->path);
	mounttab_free(&t->tab);
	*t = (struct target)TARGET_INIT;
}

int target_alive(const struct target *t, struct err *e)
{
	struct pollfd p = {.fd = t->pidfd, .events = POLLIN};

	/* Readable: it has ended, whether or not somebody has waited for it. */
	if (poll(&p, 1, 0) > 0)
		return err_set(e, -ESRCH, "the container's process %d has ended", t->pid);
	return 0;
}

static int refuse_own_namespace(const struct target *t, struct err *e)
{
	struct stat own, its;

	if (stat("/proc/self/ns/mnt", &own) < 0 || fstatat(t->proc, "ns/mnt", &its, 0) < 0)
		return err_errno(e, -errno, "the mount namespace of process %d", t->pid);
	if (own.st_dev == its.st_dev && own.st_ino == its.st_ino)
		return err_set(e, -EPERM,
			       "the container has no mount namespace of its own: its root file "
			       "system would be mounted on the host");
	return 0;
}

int target_open(int32_t pid, struct target *ret, struct err *e)
{
	char path[32];

	*ret = (struct target)TARGET_INIT;
	if (pid <= 0)
		return err_set(e, -ESRCH, "the runtime's state has no pid");
	ret->pid = pid;
	ret->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (ret->pidfd < 0)
		return err_errno(e, -errno, "process %d", pid);
	snprintf(path, sizeof(path), "/proc/%d", pid);
	ret->proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ret->proc < 0)
		return err_errno(e, -errno, "%s", path);
	/* Alive after the open: so both descriptors are of the same process. */
	if (target_alive(ret, e) < 0)
		return -ESRCH;
	return refuse_own_namespace(ret, e);
}

int target_look(struct target *t, const char *path, struct err *e)
{
	const struct mountinfo *m;
	int r;

	t->path = realpath(path, NULL);
	if (!t->path)
		return err_errno(e, -errno, "root directory %.300s", path);
	r = mounttab_read(t->proc, &t->tab, e);
	if (r < 0)
		return r;
	m = mounttab_top(&t->tab, t->path);
	if (!m)
		return err_set(e, -EINVAL,
			       "the runtime has mounted nothing at %.300s: it must do so before "
			       "its hooks",
			       t->path);
	if (m->shared)
		return err_set(e, -EPERM,
			       "the root directory %.300s is shared with other mount namespaces",
			       t->path);
	t->mount = m->id;
	return 0;
}

/* --- what its process holds --- */

/* Of /proc/PID/fdinfo/N. */
static bool in_mount(int fdinfo, const char *name, int mount)
{
	_cleanup_fd_ int fd = openat(fdinfo, name, O_RDONLY | O_CLOEXEC);
	char text[512], *at;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	/* Closed meanwhile; init itself waits, but a thread of it may live. */
	if (n < 0)
		return fd >= 0;
	text[n] = '\0';
	at = strstr(text, "mnt_id:");
	return !at || strtol(at + strlen("mnt_id:"), NULL, 10) == mount;
}

static int look_at_fd(void *ctx, int dir, const char *name)
{
	return in_mount(dir, name, *(const int *)ctx);
}

bool target_pinned(const struct target *t)
{
	int fd = fd_open_beneath(t->proc, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	int mount = t->mount;

	/* In doubt it is. */
	return fd_each_entry(fd, look_at_fd, &mount) != 0;
}

/* --- going in --- */

static int check_rootfs(struct target *t, struct err *e)
{
	int id, r;

	t->rootfs = open(t->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (t->rootfs < 0)
		return err_errno(e, -errno, "root directory %.300s", t->path);
	r = mnt_id(t->rootfs, &id);
	if (r < 0)
		return err_errno(e, r, "root directory %.300s", t->path);
	if (id != t->mount)
		return err_set(e, -EINVAL,
			       "the root directory %.300s is not the mount that mountinfo shows",
			       t->path);
	return 0;
}

int target_enter(struct target *t, struct err *e)
{
	int r = target_alive(t, e);

	if (r < 0)
		return r;
	if (setns(t->pidfd, CLONE_NEWNS) < 0)
		return err_errno(e, -errno, "the mount namespace of process %d", t->pid);
	return check_rootfs(t, e);
}
