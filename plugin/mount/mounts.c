/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/mount/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/uapi.h"

/* How long our own last open is waited for, doubled each time; 30 ms in all. */
#define LEASE_AGAIN_US     2000
#define LEASE_AGAIN_MAX_US 16000

static int fs_open(const char *type)
{
	int fd = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int fs_string(int fs, const char *key, const char *value)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int fs_fd(int fs, const char *key, int fd)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_FD, key, NULL, fd) < 0 ? -errno : 0;
}

static int fs_magic_link(int fs, const char *key, int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fs_string(fs, key, path);
}

/* The kernel's own words about a mount that failed: the first message in the context's log. */
static void kernel_words(int fs, char *text, size_t size)
{
	ssize_t n = read(fs, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	if (n > 2 && text[1] == ' ')
		memmove(text, text + 2, strlen(text + 2) + 1);
}

static int fs_fail(int fs, int r, struct err *e, const char *what)
{
	char text[200];

	kernel_words(fs, text, sizeof(text));
	return err_errno(e, r, "%s%s%s", what, text[0] ? ": " : "", text);
}

static int fs_mount(int fs, unsigned int attributes)
{
	int fd;

	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
	return fd < 0 ? -errno : fd;
}

int mount_erofs(int image_fd, int tar_fd, struct err *e)
{
	_cleanup_fd_ int fs = fs_open("erofs");
	int r;

	if (fs == -ENODEV)
		return err_set(e, -EOPNOTSUPP, "this kernel has no EROFS (CONFIG_EROFS_FS)");
	if (fs < 0)
		return err_errno(e, fs, "fsopen erofs");
	r = fs_magic_link(fs, "source", image_fd);
	if (r == 0 && tar_fd >= 0)
		r = fs_magic_link(fs, "device", tar_fd);
	if (r == 0)
		r = fs_mount(fs, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
	if (r == -ENOTBLK)
		return err_set(e, -EOPNOTSUPP,
			       "this kernel cannot mount EROFS from a file; Linux "
			       "6.12 or newer with CONFIG_EROFS_FS_BACKED_BY_FILE is needed");
	return r < 0 ? fs_fail(fs, r, e, "mounting EROFS") : r;
}

int mount_number(int mount_fd, uint64_t *ret)
{
	_cleanup_fd_ int root = openat(mount_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	static const char prefix[] = "erofs/erofs-";
	struct fs_sysfs_path p = {0};

	if (root < 0)
		return -errno;
	if (ioctl(root, FS_IOC_GETFSSYSFSPATH, &p) < 0)
		return -EOPNOTSUPP;
	p.name[sizeof(p.name) - 1] = '\0';
	if (strncmp((char *)p.name, prefix, strlen(prefix)) != 0)
		return -EOPNOTSUPP;
	*ret = strtoull((char *)p.name + strlen(prefix), NULL, 10);
	return 0;
}

void mount_set_readahead(int mount_fd, uint32_t kb)
{
	_cleanup_fd_ int fd = -1;
	uint64_t number;
	char path[80];

	if (kb == 0 || mount_number(mount_fd, &number) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/erofs-%" PRIu64 "/read_ahead_kb", number);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		dprintf(fd, "%u\n", kb);
}

/*
 * overlayfs looks for the opaque mark when it merges a directory, but never at the roots: an opaque
 * root directory hides what is below only if that is left out (tried on Linux 6.18).
 */
static unsigned lowest_visible(const int *lower, unsigned n)
{
	for (unsigned i = n; i-- > 1;) {
		_cleanup_fd_ int root = openat(lower[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		char mark;

		if (root >= 0 && fgetxattr(root, "trusted.overlay.opaque", &mark, 1) == 1 &&
		    mark == 'y')
			return i;
	}
	return 0;
}

int mount_overlay(const int *lower, unsigned n, int upper, int work, const char *label,
		  struct err *e)
{
	_cleanup_fd_ int fs = fs_open("overlay");
	unsigned lowest = lowest_visible(lower, n);
	int r = 0;

	if (fs == -ENODEV)
		return err_set(e, -EOPNOTSUPP, "this kernel has no overlayfs");
	if (fs < 0)
		return err_errno(e, fs, "fsopen overlay");
	/* overlayfs takes the topmost lower first. */
	for (unsigned i = n; i-- > lowest && r == 0;)
		r = fs_fd(fs, "lowerdir+", lower[i]);
	if (r == -EINVAL)
		return fs_fail(fs, -EOPNOTSUPP, e,
			       "overlayfs does not take lower layers by "
			       "descriptor; Linux 6.13 or newer is needed");
	if (r == 0)
		r = fs_fd(fs, "upperdir", upper);
	if (r == 0)
		r = fs_fd(fs, "workdir", work);
	if (r == 0)
		r = fs_string(fs, "redirect_dir", "nofollow");
	if (r == 0)
		r = fs_string(fs, "metacopy", "off");
	if (r == 0 && label[0])
		r = fs_string(fs, "context", label);
	if (r == 0)
		r = fs_mount(fs, MOUNT_ATTR_NODEV);
	return r < 0 ? fs_fail(fs, r, e, "mounting overlay") : r;
}

/*
 * EROFS file handles (include/linux/exportfs.h): older kernels { u32 nid, u32 generation }, newer
 * ones { u32 nid >> 32, u32 nid, u32 generation }. The root directory's own handle tells which.
 */
#define HANDLE_INO32_GEN 0x01
#define HANDLE_INO64_GEN 0x81

struct handle {
	struct file_handle h;
	uint32_t word[3];
};

static int make_handle(int root_fd, uint64_t nid, struct handle *ret)
{
	int mount_id;

	ret->h.handle_bytes = sizeof(ret->word);
	if (name_to_handle_at(root_fd, "", &ret->h, &mount_id, AT_EMPTY_PATH) < 0)
		return -errno;
	if (ret->h.handle_type == HANDLE_INO64_GEN) {
		ret->word[0] = (uint32_t)(nid >> 32);
		ret->word[1] = (uint32_t)nid;
	} else if (ret->h.handle_type == HANDLE_INO32_GEN && nid <= UINT32_MAX) {
		ret->word[0] = (uint32_t)nid;
	} else {
		return -EOPNOTSUPP;
	}
	return 0;
}

static int open_by_nid(int root_fd, uint64_t nid)
{
	struct handle handle;
	int fd, r = make_handle(root_fd, nid, &handle);

	if (r < 0)
		return r;
	/* O_NONBLOCK: an inode leased by somebody else is in use, not worth waiting for. */
	fd = open_by_handle_at(root_fd, &handle.h, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * Taken and given back. Somebody who opens the file at this moment waits for the break that the
 * giving back ends; the signal that tells of it (SIGIO) is ignored in this process.
 */
static bool lease_granted(int fd)
{
	return fcntl(fd, F_SETLEASE, F_WRLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0;
}

void lease_probe(int root_fd, const uint64_t *nids, unsigned n, uint8_t *granted)
{
	int fds[LEASE_PROBE_MAX];

	for (unsigned i = 0; i < n; i++)
		fds[i] = open_by_nid(root_fd, nids[i]);
	for (unsigned i = 0; i < n; i++)
		granted[i] = fds[i] >= 0 && lease_granted(fds[i]);
	/*
	 * Under FAN_OPEN_PERM our own open made the engine hold an event descriptor on the file,
	 * which it closes a moment after it let us go on, and before it answers the next: so that
	 * only the last can be refused for it.
	 */
	for (useconds_t us = LEASE_AGAIN_US; n > 0 && !granted[n - 1] && fds[n - 1] >= 0; us *= 2) {
		usleep(us);
		granted[n - 1] = lease_granted(fds[n - 1]);
		if (us >= LEASE_AGAIN_MAX_US)
			break;
	}
	for (unsigned i = 0; i < n; i++)
		cleanup_closep(&fds[i]);
}
