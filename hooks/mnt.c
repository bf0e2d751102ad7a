/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/mnt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/mount.h and sys/mount.h cannot both be had with every glibc: the one flag we need of it. */
#define PROPAGATION_PRIVATE (1u << 18) /* MS_PRIVATE */

static int open_tree_clone(int dirfd, const char *name, unsigned int flags)
{
	long fd = syscall(SYS_open_tree, dirfd, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags);

	return fd < 0 ? -errno : (int)fd;
}

int mnt_clone(int fd, bool recursive)
{
	return open_tree_clone(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));
}

int mnt_clone_at(int dirfd, const char *name, bool recursive)
{
	return open_tree_clone(dirfd, name, AT_SYMLINK_NOFOLLOW | (recursive ? AT_RECURSIVE : 0));
}

int mnt_move(int fd, int target)
{
	return syscall(SYS_move_mount, fd, "", target, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

static int set_attr(int fd, unsigned int flags, struct mount_attr attr)
{
	return syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | flags, &attr, sizeof(attr)) < 0
		       ? -errno
		       : 0;
}

int mnt_set_readonly(int fd)
{
	return set_attr(fd, 0, (struct mount_attr){.attr_set = MOUNT_ATTR_RDONLY});
}

int mnt_set_private(int fd)
{
	return set_attr(fd, AT_RECURSIVE, (struct mount_attr){.propagation = PROPAGATION_PRIVATE});
}

int mnt_id(int fd, int *ret)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &st) < 0)
		return -errno;
	if (!(st.stx_mask & STATX_MNT_ID))
		return -EOPNOTSUPP;
	*ret = (int)st.stx_mnt_id;
	return 0;
}

int mnt_is_root(int fd, bool *ret)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -errno;
	if (!(st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT))
		return -EOPNOTSUPP;
	*ret = st.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	return 0;
}
