/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/pieces.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks/mnt.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

/* Directories that a runtime made to mount on are not nested deeper than a mount's path. */
#define CLEAR_DEPTH 64

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static DIR *open_list(int dir, const char *name)
{
	int fd = fd_open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !d)
		close(fd);
	if (fd < 0)
		errno = -fd;
	return d;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* --- from the image --- */

static int read_link(int dir, const char *name, char **ret)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(dir, name, text, sizeof(text) - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int take_one(struct piece *p, int image)
{
	struct stat st;

	if (fstatat(image, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return read_link(image, p->name, &p->link);
	p->dir = S_ISDIR(st.st_mode);
	p->fd = mnt_clone_at(image, p->name, false);
	return p->fd < 0 ? p->fd : 0;
}

int pieces_take(int image, struct pieces *ret, struct err *e)
{
	_cleanup_(closedirp) DIR *d = open_list(image, ".");

	if (!d)
		return err_errno(e, -errno, "the image's root directory");
	ret->v = calloc(LIMIT_GRAFTS, sizeof(*ret->v));
	if (!ret->v)
		return err_errno(e, -ENOMEM, "the image's root directory");
	for (struct dirent *de = readdir(d); de; de = readdir(d)) {
		struct piece *p = &ret->v[ret->n];
		int r;

		if (is_dots(de->d_name))
			continue;
		if (ret->n == LIMIT_GRAFTS)
			return err_set(e, -E2BIG,
				       "the image's root directory has more than %d entries: this "
				       "runtime needs tarn-runtime in front of it",
				       LIMIT_GRAFTS);
		memcpy(p->name, de->d_name, strnlen(de->d_name, LIMIT_FILE_NAME));
		p->fd = -1;
		ret->n++;
		r = take_one(p, image);
		if (r < 0)
			return err_errno(e, r, "/%.200s of the image", p->name);
	}
	return 0;
}

void pieces_free(struct pieces *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		free(ps->v[i].link);
		cleanup_closep(&ps->v[i].fd);
	}
	free(ps->v);
	*ps = (struct pieces){0};
}

/* --- into the stub --- */

/* Removes what nobody can miss: links, empty files, and directories of nothing else. */
static int clear(int dir, const char *name, int depth)
{
	_cleanup_(closedirp) DIR *d = NULL;
	struct stat st;

	if (depth == 0)
		return -ELOOP;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode)) {
		if (!S_ISLNK(st.st_mode) && (!S_ISREG(st.st_mode) || st.st_size > 0))
			return -ENOTEMPTY;
		return unlinkat(dir, name, 0) < 0 ? -errno : 0;
	}
	d = open_list(dir, name);
	if (!d)
		return -errno;
	for (struct dirent *de = readdir(d); de; de = readdir(d)) {
		int r = is_dots(de->d_name) ? 0 : clear(dirfd(d), de->d_name, depth - 1);

		if (r < 0)
			return r;
	}
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int place_link(const struct piece *p, int stub)
{
	_cleanup_free_ char *old = NULL;
	int r = read_link(stub, p->name, &old);

	if (r == 0 && strcmp(old, p->link) == 0)
		return 0;
	r = clear(stub, p->name, CLEAR_DEPTH);
	if (r < 0)
		return r;
	return symlinkat(p->link, stub, p->name) < 0 ? -errno : 0;
}

static int make_file(int stub, const char *name)
{
	int fd = openat(stub, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	close(fd);
	return 0;
}

/* Something to mount on, of the right type: what is there, or something new. */
static int make_place(const struct piece *p, int stub)
{
	struct stat st;
	int r = fstatat(stub, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;

	if (r == -ENOENT)
		return p->dir ? fd_mkdir(stub, p->name, 0755) : make_file(stub, p->name);
	if (r < 0 || (!S_ISLNK(st.st_mode) && S_ISDIR(st.st_mode) == p->dir))
		return r;
	r = clear(stub, p->name, CLEAR_DEPTH);
	if (r < 0)
		return r;
	return p->dir ? fd_mkdir(stub, p->name, 0755) : make_file(stub, p->name);
}

int piece_place(const struct piece *p, int stub, int mount)
{
	_cleanup_fd_ int place = -1;
	int id = -1, r;

	if (p->link)
		return place_link(p, stub);
	r = make_place(p, stub);
	if (r < 0)
		return r;
	place = fd_open_beneath(stub, p->name, O_PATH | O_NOFOLLOW, 0);
	r = place < 0 ? place : mnt_id(place, &id);
	if (r < 0)
		return r;
	/* Nothing of the runtime's can be there any more. */
	return id == mount ? mnt_move(p->fd, place) : -EBUSY;
}
