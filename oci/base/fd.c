/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/* What fd_read_all() asks for at a time. */
#define READ_CHUNK (64u << 10)
/* openat2(2): EAGAIN when a rename elsewhere raced with ".."; the caller is to try again. */
#define OPEN_TRIES 64
/* ".tmp-" and 16 hex digits: short, so that every legal name can be published. */
#define TMP_NAME (5 + 16 + 1)

/* #syscalls engine: pread64 */
int fd_pread_full(int fd, void *buf, size_t len, uint64_t off)
{
	uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

/* #syscalls engine: pwrite64 */
int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

int fd_write_full(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static ssize_t read_retry(int fd, void *buf, size_t len)
{
	ssize_t n;

	do
		n = read(fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* #syscalls engine: read */
int fd_read_all(int fd, struct buf *b)
{
	while (!b->failed) {
		size_t left = b->max - b->len;
		size_t want = left < READ_CHUNK ? left : READ_CHUNK;
		uint8_t probe;
		void *dst = want ? buf_reserve(b, want) : &probe;
		ssize_t n;

		if (!dst)
			break;
		/* With the buffer full, one byte tells the end of the file from too much. */
		n = read_retry(fd, dst, want ? want : 1);
		if (n <= 0)
			return (int)n;
		if (want)
			buf_commit(b, (size_t)n);
		else
			b->failed = -EFBIG;
	}
	return b->failed;
}

static int open_resolved(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)flags | O_CLOEXEC,
		/* openat2 refuses a mode for an open that can not create. */
		.mode = creates ? mode : 0,
		.resolve = resolve,
	};
	long fd = -1;

	for (int i = 0; i < OPEN_TRIES; i++) {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_resolved(dirfd, path, flags, mode,
			     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int fd_open_in_root(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_resolved(dirfd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

static int sync_retry(int fd)
{
	int r;

	do
		r = fsync(fd);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* A descriptor of its own, for @dirfd may be AT_FDCWD or O_PATH, which fsync does not take. */
static int sync_dir(int dirfd)
{
	_cleanup_fd_ int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : sync_retry(fd);
}

/* With a slash in it the directory that must be fsynced would be another than @dirfd. */
static bool is_plain_name(const char *name)
{
	return name[0] && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && !strchr(name, '/');
}

static int random_name(char out[TMP_NAME])
{
	uint64_t v;

	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		return -errno;
	snprintf(out, TMP_NAME, ".tmp-%016" PRIx64, v);
	return 0;
}

/* Makes the temporary file; its content and mode are on disk when this returns 0. */
static int write_tmp(int dirfd, const char *tmp, const void *data, size_t len, mode_t mode)
{
	_cleanup_fd_ int fd = -1;
	int r;

	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, data, len);
	/* After the content, for a mode without write, and past any umask. */
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0)
		r = sync_retry(fd);
	if (r < 0)
		(void)unlinkat(dirfd, tmp, 0);
	return r;
}

int fd_publish(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
	       struct err *e)
{
	char tmp[TMP_NAME];
	int r;

	if (!is_plain_name(name))
		return err_set(e, -EINVAL, "'%s' is not a plain file name", name);
	r = random_name(tmp);
	if (r == 0)
		r = write_tmp(dirfd, tmp, data, len, mode);
	if (r < 0)
		return err_errno(e, r, "cannot write '%s'", name);
	r = fd_publish_rename(dirfd, tmp, name, e);
	if (r < 0)
		(void)unlinkat(dirfd, tmp, 0);
	return r;
}

int fd_publish_rename(int dirfd, const char *tmp, const char *name, struct err *e)
{
	int r;

	if (!is_plain_name(name))
		return err_set(e, -EINVAL, "'%s' is not a plain file name", name);
	if (renameat(dirfd, tmp, dirfd, name) < 0)
		return err_errno(e, -errno, "cannot rename '%s' to '%s'", tmp, name);
	r = sync_dir(dirfd);
	if (r < 0)
		return err_errno(e, r, "cannot sync the directory of '%s'", name);
	return 0;
}

int fd_each_entry(int fd, fd_entry_fn *fn, void *ctx)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		r = fd < 0 ? fd : -errno;
		cleanup_closep(&fd);
		return r;
	}
	while (r == 0 && (errno = 0, d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = fn(ctx, dirfd(dir), d->d_name);
	if (r == 0)
		r = -errno;
	closedir(dir);
	return r;
}

int fd_mkdir(int dirfd, const char *name, mode_t mode)
{
	struct stat st;

	if (mkdirat(dirfd, name, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int64_t fd_resident(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	/* stat(2): st_blocks counts 512-byte units whatever the block size. */
	return (int64_t)st.st_blocks * 512;
}

int fd_set_cloexec(int fd, int on)
{
	int flags = fcntl(fd, F_GETFD);

	if (flags < 0)
		return -errno;
	flags = on ? flags | FD_CLOEXEC : flags & ~FD_CLOEXEC;
	return fcntl(fd, F_SETFD, flags) < 0 ? -errno : 0;
}

/*
 * Removing a tree
 *
 * What a container left behind can be nested deeper than we have stack or descriptors for. So
 * nothing recurses: a directory that is not empty is moved up to the top of the tree, under a
 * fresh name, and emptied in a later pass. Two descriptors, whatever the depth.
 */
struct removal {
	int topfd;       /* borrowed */
	uint64_t serial; /* of the last fresh name */
	bool seen;       /* an entry of the top, in this pass */
};

/* Unlinks a file or an empty directory. -ENOTEMPTY: it is a directory with something in it. */
static int remove_one(int dirfd, const char *name)
{
	if (unlinkat(dirfd, name, 0) == 0)
		return 0;
	/* Linux says EISDIR for a directory, POSIX EPERM. */
	if (errno != EISDIR)
		return -errno;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	return errno == EEXIST ? -ENOTEMPTY : -errno;
}

static int move_to_top(struct removal *rm, int dirfd, const char *name)
{
	char fresh[32];

	do {
		snprintf(fresh, sizeof(fresh), "%016" PRIx64, ++rm->serial);
		if (renameat2(dirfd, name, rm->topfd, fresh, RENAME_NOREPLACE) == 0)
			return 0;
	} while (errno == EEXIST);
	return -errno;
}

/* Opens a directory to empty it: never through a link, never onto another mount (-EXDEV). */
static int open_tree_dir(int dirfd, const char *name)
{
	return open_resolved(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
			     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

static int flatten_entry(void *ctx, int dirfd, const char *name)
{
	int r = remove_one(dirfd, name);

	return r == -ENOTEMPTY ? move_to_top(ctx, dirfd, name) : r;
}

static int top_entry(void *ctx, int dirfd, const char *name)
{
	struct removal *rm = ctx;
	int r = remove_one(dirfd, name);

	rm->seen = true;
	if (r != -ENOTEMPTY)
		return r;
	r = fd_each_entry(open_tree_dir(dirfd, name), flatten_entry, rm);
	return r < 0 ? r : remove_one(dirfd, name);
}

int fd_remove_tree(int dirfd, const char *name)
{
	_cleanup_fd_ int top = -1;
	struct removal rm = {.serial = 0};
	int r = remove_one(dirfd, name);

	if (r != -ENOTEMPTY)
		return r;
	top = open_tree_dir(dirfd, name);
	if (top < 0)
		return top;
	rm.topfd = top;
	/* Passes over the top until one finds nothing: entries arrive while it is being read. */
	do {
		rm.seen = false;
		r = fd_each_entry(open_tree_dir(top, "."), top_entry, &rm);
	} while (r == 0 && rm.seen);
	return r < 0 ? r : remove_one(dirfd, name);
}
