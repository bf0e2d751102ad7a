/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"

struct walk {
	int root; /* borrowed */
	enum walk_want want;
	char done[LIMIT_PATH]; /* relative, resolved: no links, no "..", "" is the root */
	char left[LIMIT_PATH]; /* what is to come */
	unsigned int links;
};

static int open_done(const struct walk *w)
{
	return fd_open_beneath(w->root, w->done[0] ? w->done : ".", O_PATH | O_NOFOLLOW, 0);
}

/* Cuts the next component off what is left; false at the end. */
static bool next_name(struct walk *w, char name[LIMIT_FILE_NAME + 1], int *r)
{
	size_t slashes = strspn(w->left, "/");
	size_t len = strcspn(w->left + slashes, "/");

	*r = 0;
	if (len == 0)
		return false;
	if (len > LIMIT_FILE_NAME) {
		*r = -ENAMETOOLONG;
		return false;
	}
	memcpy(name, w->left + slashes, len);
	name[len] = '\0';
	memmove(w->left, w->left + slashes + len, strlen(w->left + slashes + len) + 1);
	return true;
}

static void go_up(struct walk *w)
{
	char *slash = strrchr(w->done, '/');

	*(slash ? slash : w->done) = '\0';
}

static int append(struct walk *w, const char *name)
{
	size_t len = strlen(w->done);
	int n = snprintf(w->done + len, sizeof(w->done) - len, "%s%s", len ? "/" : "", name);

	return (size_t)n < sizeof(w->done) - len ? 0 : -ENAMETOOLONG;
}

/* What the link says comes before what was left. */
static int follow(struct walk *w, int link)
{
	char text[LIMIT_PATH + LIMIT_PATH + 2];
	ssize_t n = readlinkat(link, "", text, LIMIT_PATH);
	int len;

	if (w->want == WALK_SYSTEM || ++w->links > LIMIT_LINKS)
		return -ELOOP;
	if (n <= 0 || n >= LIMIT_PATH)
		return n < 0 ? -errno : -ENAMETOOLONG;
	go_up(w);
	if (text[0] == '/')
		w->done[0] = '\0';
	len = snprintf(text + n, sizeof(text) - (size_t)n, "/%s", w->left);
	if ((size_t)n + (size_t)len >= sizeof(w->left))
		return -ENAMETOOLONG;
	memcpy(w->left, text, (size_t)n + (size_t)len + 1);
	return 0;
}

/* The parent is opened anew, by its resolved name; what is made is opened and looked at after. */
static int make(struct walk *w, const char *name)
{
	bool last = w->left[strspn(w->left, "/.")] == '\0';
	_cleanup_fd_ int parent = -1;
	_cleanup_fd_ int file = -1;

	go_up(w);
	parent = open_done(w);
	if (parent < 0)
		return parent;
	if (!last || w->want != WALK_FILE) {
		if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
			return -errno;
	} else {
		file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			      0644);
		if (file < 0 && errno != EEXIST)
			return -errno;
	}
	return append(w, name);
}

static int refuse_procfs(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == PROC_SUPER_MAGIC ? -EXDEV : 0;
}

/* One component further. */
static int step(struct walk *w, const char *name)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;
	int r = append(w, name);

	if (r < 0)
		return r;
	fd = open_done(w);
	if (fd == -ENOENT) {
		r = make(w, name);
		if (r < 0)
			return r;
		fd = open_done(w);
	}
	if (fd < 0)
		return fd;
	r = refuse_procfs(fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISLNK(st.st_mode) ? follow(w, fd) : 0;
}

static int walk(struct walk *w)
{
	char name[LIMIT_FILE_NAME + 1];
	struct stat st;
	int fd, r;

	while (next_name(w, name, &r)) {
		if (strcmp(name, "..") == 0)
			go_up(w);
		else if (strcmp(name, ".") != 0)
			r = step(w, name);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	fd = open_done(w);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (S_ISLNK(st.st_mode))
		r = -ELOOP; /* it was something else a moment ago */
	else if (S_ISDIR(st.st_mode) != (w->want != WALK_FILE))
		r = w->want == WALK_FILE ? -EISDIR : -ENOTDIR;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

int walk_in_root(int root, const char *path, enum walk_want want, struct err *e)
{
	struct walk w = {.root = root, .want = want};
	int n = snprintf(w.left, sizeof(w.left), "%s", path);
	int r = (size_t)n < sizeof(w.left) ? walk(&w) : -ENAMETOOLONG;

	if (r == -ELOOP && want == WALK_SYSTEM)
		return err_set(e, r, "%.200s: the image has a symbolic link there", path);
	if (r == -EXDEV)
		return err_set(e, r, "%.200s: the image has a symbolic link into /proc there",
			       path);
	return r < 0 ? err_errno(e, r, "%.200s in the image", path) : r;
}
