/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/store/files.h"

#define XATTR_LIST_MAX 65536 /* XATTR_LIST_MAX of linux/limits.h */

bool store_id_valid(const char *id)
{
	size_t n = strnlen(id, LIMIT_ID);

	if (n == 0 || n == LIMIT_ID || !isalnum((unsigned char)id[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)id[i]) && !strchr("_.+-", id[i]))
			return false;
	return true;
}

static int copy_xattrs(const char *from, int to)
{
	char names[XATTR_LIST_MAX], value[XATTR_LIST_MAX];
	ssize_t len = listxattr(from, names, sizeof(names));

	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		const char *name = names + at;
		ssize_t n;

		/* What overlayfs keeps for itself has no meaning on an upper of ours. */
		if (!strncmp(name, "trusted.overlay.", 16))
			continue;
		n = getxattr(from, name, value, sizeof(value));
		if (n >= 0 && fsetxattr(to, name, value, (size_t)n, 0) < 0)
			return -errno;
	}
	return 0;
}

/* The overlay's root shows what upper has: so upper looks like the image's root directory. */
static int copy_root(int root, int upper)
{
	struct timespec times[2];
	char path[32];
	struct stat st;
	int r;

	if (fstat(root, &st) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", root);
	r = copy_xattrs(path, upper);
	if (r < 0)
		return r;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (fchown(upper, st.st_uid, st.st_gid) < 0 || fchmod(upper, st.st_mode & 07777) < 0 ||
	    futimens(upper, times) < 0)
		return -errno;
	return 0;
}

static int open_dir(int parent, const char *name)
{
	return fd_open_beneath(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

int store_container_open(int store, const char *id, int root, int *ret_upper, int *ret_work,
			 struct err *e)
{
	_cleanup_fd_ int all = open_dir(store, "containers");
	_cleanup_fd_ int dir = -1;
	_cleanup_fd_ int upper = -1;
	_cleanup_fd_ int work = -1;
	int r;

	if (!store_id_valid(id))
		return err_set(e, -EINVAL, "'%.*s' is no container id", LIMIT_ID, id);
	r = all < 0 ? all : fd_mkdir(all, id, 0700);
	if (r == 0)
		r = dir = open_dir(all, id);
	if (r < 0)
		return err_errno(e, r, "store: containers/%s", id);
	upper = open_dir(dir, "upper");
	if (upper == -ENOENT) {
		/* Made under another name, so that an upper that is there is complete. */
		fd_remove_tree(dir, "upper.tmp");
		r = fd_mkdir(dir, "upper.tmp", 0755);
		if (r == 0)
			r = upper = open_dir(dir, "upper.tmp");
		if (r >= 0)
			r = copy_root(root, upper);
		if (r == 0 && renameat(dir, "upper.tmp", dir, "upper") < 0)
			r = -errno;
		if (r < 0)
			return err_errno(e, r, "store: containers/%s/upper", id);
	}
	r = fd_mkdir(dir, "work", 0700);
	if (r == 0)
		r = work = open_dir(dir, "work");
	if (upper < 0 || r < 0)
		return err_errno(e, upper < 0 ? upper : r, "store: containers/%s", id);
	*ret_upper = take_fd(&upper);
	*ret_work = take_fd(&work);
	return 0;
}

int store_container_drop(int store, const char *id, struct err *e)
{
	_cleanup_fd_ int all = open_dir(store, "containers");
	int r;

	if (!store_id_valid(id))
		return err_set(e, -EINVAL, "'%.*s' is no container id", LIMIT_ID, id);
	r = all < 0 ? all : fd_remove_tree(all, id);
	return r < 0 && r != -ENOENT ? err_errno(e, r, "store: containers/%s", id) : 0;
}
