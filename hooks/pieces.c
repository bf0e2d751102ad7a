/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/pieces.h"

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

static int open_list(int dir, const char *name)
{
	return fd_open_beneath(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
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

struct taking {
	struct pieces *ps;
	struct err *e;
};

static int take_entry(void *ctx, int image, const char *name)
{
	struct taking *t = ctx;
	struct piece *p = &t->ps->v[t->ps->n];
	int r;

	if (t->ps->n == LIMIT_GRAFTS)
		return err_set(t->e, -E2BIG,
			       "the image's root directory has more than %d entries: this "
			       "runtime needs tarn-runtime in front of it",
			       LIMIT_GRAFTS);
	memcpy(p->name, name, strnlen(name, LIMIT_FILE_NAME));
	p->fd = -1;
	t->ps->n++;
	r = take_one(p, image);
	return r < 0 ? err_errno(t->e, r, "/%.200s of the image", p->name) : 0;
}

int pieces_take(int image, struct pieces *ret, struct err *e)
{
	struct taking t = {.ps = ret, .e = e};
	int r;

	ret->v = calloc(LIMIT_GRAFTS, sizeof(*ret->v));
	r = ret->v ? fd_each_entry(open_list(image, "."), take_entry, &t) : -ENOMEM;
	/* What was wrong with an entry was said. */
	return r < 0 && !e->code ? err_errno(e, r, "the image's root directory") : r;
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
static int clear(void *ctx, int dir, const char *name)
{
	int depth = *(const int *)ctx - 1, r;
	struct stat st;

	if (depth < 0)
		return -ELOOP;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode)) {
		if (!S_ISLNK(st.st_mode) && (!S_ISREG(st.st_mode) || st.st_size > 0))
			return -ENOTEMPTY;
		return unlinkat(dir, name, 0) < 0 ? -errno : 0;
	}
	r = fd_each_entry(open_list(dir, name), clear, &depth);
	if (r < 0)
		return r;
	return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int clear_away(int dir, const char *name)
{
	int depth = CLEAR_DEPTH;

	return clear(&depth, dir, name);
}

static int place_link(const struct piece *p, int stub)
{
	_cleanup_free_ char *old = NULL;
	int r = read_link(stub, p->name, &old);

	if (r == 0 && strcmp(old, p->link) == 0)
		return 0;
	r = clear_away(stub, p->name);
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
	r = clear_away(stub, p->name);
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
