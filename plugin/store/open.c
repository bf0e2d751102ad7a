/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/fault/fan.h"
#include "plugin/store/files.h"

static const char *const directories[] = {
	"images",     "blobs", "blobs/sha256", "layers",       "unproven",
	"containers", "empty", "resolver",     "resolver/etc", "mounted",
};

/* What is not in our control may not be there: an existing directory must be empty or ours. */
static int check_format(int store, const char *path, struct err *e)
{
	_cleanup_buf_ struct buf text = {0};
	_cleanup_fd_ int fd = openat(store, "format", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char *end;
	long format;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : err_errno(e, -errno, "store %s: format", path);
	buf_init(&text, 64);
	if (fd_read_all(fd, &text) < 0 || !buf_cstr(&text))
		return err_set(e, -EINVAL, "store %s: the file 'format' cannot be read", path);
	format = strtol((char *)text.data, &end, 10);
	if (end == (char *)text.data || format < 1)
		return err_set(e, -EINVAL, "store %s: the file 'format' is damaged", path);
	if (format > STORE_FORMAT)
		return err_set(e, -EINVAL,
			       "store %s has format %ld, made by a newer tarn; this "
			       "one knows up to %d",
			       path, format, STORE_FORMAT);
	return 0;
}

static int make_file(int store, const char *name, const char *text, struct err *e)
{
	if (faccessat(store, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	return fd_publish(store, name, text, strlen(text), 0600, e);
}

/* What a start that was cut short did not make is made by the next; `format` says it is ours. */
static int make_files(int store, const char *path, struct err *e)
{
	static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	static const char index[] = "{\"schemaVersion\":2,\"manifests\":[]}";
	char format[16];
	int r;

	snprintf(format, sizeof(format), "%d\n", STORE_FORMAT);
	r = make_file(store, "format", format, e);
	if (r == 0)
		r = make_file(store, "oci-layout", layout, e);
	if (r == 0)
		r = make_file(store, "index.json", index, e);
	return r < 0 ? err_wrap(e, r, "store %s", path) : 0;
}

static int make_directories(int store, const char *path, struct err *e)
{
	for (size_t i = 0; i < ARRAY_LEN(directories); i++) {
		/* The resolver's files are read by a process without rights. */
		mode_t mode = strncmp(directories[i], "resolver", 8) ? 0700 : 0755;
		int r = fd_mkdir(store, directories[i], mode);

		/* The mode as it is here, whatever the umask. */
		if (r == 0 && fchmodat(store, directories[i], mode, 0) < 0)
			r = -errno;
		if (r < 0)
			return err_errno(e, r, "store %s: %s", path, directories[i]);
	}
	return 0;
}

static int lock_store(int store, const char *path, int *ret_lock, struct err *e)
{
	_cleanup_fd_ int fd =
		openat(store, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(e, -errno, "store %s: lock", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, -EBUSY, "store %s is in use by another tarnd", path);
	*ret_lock = take_fd(&fd);
	return 0;
}

/* Only a try tells: tmpfs, overlayfs, network file systems refuse the mark. */
static int check_events(int store, const char *path, struct err *e)
{
	_cleanup_fd_ int group = -1;
	_cleanup_fd_ int fd =
		openat(store, "probe.tmp", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_errno(e, -errno, "store %s", path);
	unlinkat(store, "probe.tmp", 0);
	r = fan_open_content(&group, e);
	if (r < 0)
		return r;
	r = fan_mark_content(group, fd, true);
	if (r == -EOPNOTSUPP || r == -EINVAL)
		return err_set(e, -EOPNOTSUPP,
			       "store %s: its file system cannot raise pre-content "
			       "events; use a directory on ext4, xfs or btrfs (--store)",
			       path);
	return r < 0 ? err_errno(e, r, "store %s: marking a file", path) : 0;
}

/* A new file system brings its lost+found along; the rest is of a start that was cut short. */
static int is_something(void *ctx, int dir, const char *name)
{
	static const char *const nothing[] = {"lost+found", "lock", "probe.tmp"};

	for (size_t i = 0; i < ARRAY_LEN(nothing); i++)
		if (!strcmp(name, nothing[i]))
			return 0;
	return strncmp(name, STORE_TMP_PREFIX, strlen(STORE_TMP_PREFIX)) != 0;
}

static bool is_empty(int store)
{
	int fd = fd_open_beneath(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	return fd_each_entry(fd, is_something, NULL) == 0;
}

int store_open(const char *path, int *ret_store, int *ret_lock, struct err *e)
{
	_cleanup_fd_ int store = -1;
	_cleanup_fd_ int lock = -1;
	int r;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "store %s", path);
	store = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store < 0)
		return err_errno(e, -errno, "store %s", path);
	r = check_format(store, path, e);
	if (r == -ENOENT && !is_empty(store))
		return err_set(e, -EINVAL,
			       "store %s: the directory is neither empty nor a tarn "
			       "store",
			       path);
	if (r < 0 && r != -ENOENT)
		return r;
	if (fchmod(store, 0700) < 0)
		return err_errno(e, -errno, "store %s", path);
	r = check_events(store, path, e);
	if (r == 0)
		r = lock_store(store, path, &lock, e);
	if (r == 0)
		r = make_files(store, path, e);
	if (r == 0)
		r = make_directories(store, path, e);
	if (r < 0)
		return r;
	*ret_store = take_fd(&store);
	*ret_lock = take_fd(&lock);
	return 0;
}
