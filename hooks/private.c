/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks/mnt.h"
#include "hooks/mountinfo.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

#define PLACE "rootfs"

const char *private_rundir(void)
{
	const char *dir = getenv("TARN_RUNDIR");

	return dir && dir[0] == '/' ? dir : RUNDIR_DEFAULT;
}

const char *private_path(const char *rundir, char out[LIMIT_PATH])
{
	snprintf(out, LIMIT_PATH, "%s/" PLACE, rundir);
	return out;
}

static int open_dir(const char *path, struct err *e)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = -errno;

		cleanup_closep(&fd);
		return err_errno(e, r, "run directory %.300s", path);
	}
	if (st.st_uid != geteuid() || (st.st_mode & 022)) {
		close(fd);
		return err_set(e, -EPERM,
			       "run directory %.300s must belong to us and be writable by nobody "
			       "else",
			       path);
	}
	return fd;
}

/* Whether what is mounted in the directory open at @fd is seen elsewhere. */
static int is_shared(int fd, bool *ret, struct err *e)
{
	_cleanup_fd_ int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mounttab tab = {0};
	const struct mountinfo *m;
	int id, r = proc < 0 ? -errno : mnt_id(fd, &id);

	if (r < 0)
		return err_errno(e, r, "looking at our mounts");
	r = mounttab_read(proc, &tab, e);
	if (r < 0)
		return r;
	m = mounttab_by_id(&tab, id);
	if (m)
		*ret = m->shared;
	else
		r = err_set(e, -EIO, "our own mountinfo lacks mount %d", id);
	mounttab_free(&tab);
	return r;
}

/* Mounted on itself, and private after: being mounted on a shared mount makes it shared first. */
static int bind_private(int dir, struct err *e)
{
	_cleanup_fd_ int copy = mnt_clone(dir, false);
	int r = copy < 0 ? copy : mnt_set_private(copy);

	if (r >= 0)
		r = mnt_move(copy, dir);
	if (r >= 0)
		r = mnt_set_private(copy);
	return r < 0 ? err_errno(e, r, "mounting the run directory on itself") : 0;
}

/* One process at a time, or there would be several of these mounts. */
static int make_private(const char *rundir, struct err *e)
{
	_cleanup_fd_ int lock = open_dir(rundir, e);
	_cleanup_fd_ int dir = -1;
	bool shared;
	int r;

	if (lock < 0)
		return lock;
	if (flock(lock, LOCK_EX) < 0)
		return err_errno(e, -errno, "run directory %.300s", rundir);
	/* Opened under the lock: it may have been mounted on meanwhile. */
	dir = open_dir(rundir, e);
	if (dir < 0)
		return dir;
	r = is_shared(dir, &shared, e);
	return r < 0 || !shared ? r : bind_private(dir, e);
}

/*
 * On an empty file system of its own: by that private_umount() tells our mount from any other, and
 * what is mounted on it can be seen nowhere else.
 */
static int mount_in(int dir, const char *rundir, int image, struct err *e)
{
	_cleanup_fd_ int place = -1;
	char path[LIMIT_PATH];
	int r = fd_mkdir(dir, PLACE, 0755);

	private_path(rundir, path);
	if (r == 0 && mount("tarn", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_RDONLY, "size=4k") < 0)
		r = -errno;
	if (r == 0)
		r = place = fd_open_beneath(dir, PLACE, O_PATH | O_DIRECTORY, 0);
	if (r >= 0)
		r = mnt_set_private(image);
	if (r >= 0)
		r = mnt_move(image, place);
	return r < 0 ? err_errno(e, r, "mounting the image at %.300s", path) : 0;
}

int private_make_rundir(const char *rundir, struct err *e)
{
	int fd;

	if (mkdir(rundir, 0755) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "run directory %.300s", rundir);
	fd = open_dir(rundir, e);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int private_mount(const char *rundir, int image, struct err *e)
{
	_cleanup_fd_ int dir = -1;
	bool shared;
	int r = private_make_rundir(rundir, e);

	if (r == 0)
		r = make_private(rundir, e);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0)
		return err_errno(e, -errno, "a mount namespace of its own");
	/* By path again: what was opened before is in the namespace we came from. */
	dir = open_dir(rundir, e);
	if (dir < 0)
		return dir;
	r = is_shared(dir, &shared, e);
	if (r == 0 && shared)
		r = err_set(e, -EPERM, "run directory %.300s is still shared with the host",
			    rundir);
	return r < 0 ? r : mount_in(dir, rundir, image, e);
}

static bool is_ours(const char *path)
{
	_cleanup_fd_ int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const struct mountinfo *m, *below = NULL;
	struct mounttab tab = {0};
	bool ours;

	if (proc < 0 || mounttab_read(proc, &tab, NULL) < 0)
		return false;
	m = mounttab_top(&tab, path);
	if (m)
		below = mounttab_by_id(&tab, m->parent);
	ours = below && strcmp(m->fstype, "overlay") == 0 && strcmp(below->point, path) == 0 &&
	       strcmp(below->fstype, "tmpfs") == 0 && !below->shared;
	mounttab_free(&tab);
	return ours;
}

void private_umount(const char *path)
{
	if (is_ours(path))
		(void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
}
