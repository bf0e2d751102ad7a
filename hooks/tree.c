/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hooks/mnt.h"
#include "hooks/walk.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

/* --- what is there --- */

/* What @point is below the root directory; NULL when it is not. */
static const char *below(const struct target *t, const char *point)
{
	size_t len = strlen(t->path);

	if (strncmp(point, t->path, len) != 0 || point[len] != '/')
		return NULL;
	return point + len + 1;
}

static bool is_system(const struct mountinfo *m, const char *point)
{
	return strcmp(m->fstype, "proc") == 0 || strcmp(m->fstype, "sysfs") == 0 ||
	       strcmp(point, "proc") == 0 || strcmp(point, "sys") == 0 || strcmp(point, "dev") == 0;
}

/*
 * Opens the mount at @point by its name, which leads through the root directory alone. Several may
 * be stacked there: what is on top counts, and what is below stays hidden, as it was.
 */
static int open_one(const struct target *t, const struct mountinfo *m, const char *point,
		    struct submount *ret, struct err *e)
{
	_cleanup_fd_ int fd = fd_open_beneath(t->rootfs, point, O_PATH | O_NOFOLLOW, 0);
	struct stat st;
	bool root = false;
	int id = -1, r = fd < 0 ? fd : mnt_is_root(fd, &root);

	if (r >= 0)
		r = mnt_id(fd, &id);
	if (r >= 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(e, r, "the runtime's mount at /%.200s", point);
	if (!root)
		return err_set(e, -EIO, "the runtime's mount at /%.200s cannot be reached", point);
	ret->point = point;
	ret->id = id;
	ret->dir = S_ISDIR(st.st_mode);
	ret->system = is_system(m, point);
	ret->fd = take_fd(&fd);
	return 0;
}

static bool is_listed(const struct tree *tr, const char *point)
{
	for (size_t i = 0; i < tr->n; i++)
		if (strcmp(tr->v[i].point, point) == 0)
			return true;
	return false;
}

/*
 * A link in the image may put one mount below another. The one with the shorter name goes first, as
 * it must have done with the runtime; tree_verify() notices where that was wrong.
 */
static int by_length(const void *a, const void *b)
{
	const struct submount *x = a, *y = b;
	size_t nx = strlen(x->point), ny = strlen(y->point);

	if (nx != ny)
		return nx < ny ? -1 : 1;
	return strcmp(x->point, y->point);
}

int tree_find(const struct target *t, struct tree *ret, struct err *e)
{
	_cleanup_tree_ struct tree tr = {0};

	tr.v = calloc(t->tab.n + 1, sizeof(*tr.v));
	if (!tr.v)
		return err_errno(e, -ENOMEM, "the runtime's mounts");
	for (size_t i = 0; i < t->tab.n; i++) {
		const struct mountinfo *m = &t->tab.v[i];
		const char *point = below(t, m->point);
		int r;

		if (m->parent != t->mount)
			continue;
		if (!point)
			return err_set(e, -EIO, "a mount at %.200s covers the root directory",
				       m->point);
		if (is_listed(&tr, point))
			continue;
		r = open_one(t, m, point, &tr.v[tr.n], e);
		if (r < 0)
			return r;
		tr.n++;
	}
	qsort(tr.v, tr.n, sizeof(tr.v[0]), by_length);
	*ret = tr;
	tr = (struct tree){0};
	return 0;
}

void tree_free(struct tree *tr)
{
	for (size_t i = 0; i < tr->n; i++)
		cleanup_closep(&tr->v[i].fd);
	free(tr->v);
	*tr = (struct tree){0};
}

/* --- into the image --- */

static enum walk_want want_of(const struct submount *s)
{
	if (s->system)
		return WALK_SYSTEM;
	return s->dir ? WALK_DIR : WALK_FILE;
}

int tree_place(const struct tree *tr, int root, struct err *e)
{
	for (size_t i = 0; i < tr->n; i++) {
		const struct submount *s = &tr->v[i];
		_cleanup_fd_ int place = walk_in_root(root, s->point, want_of(s), e);
		int r = place;

		if (r < 0)
			return r;
		r = mnt_move(s->fd, place);
		if (r < 0)
			return err_errno(e, r, "mounting at /%.200s in the image", s->point);
	}
	return 0;
}

bool tree_has_top(const struct tree *tr, const char *name)
{
	return is_listed(tr, name);
}

int tree_verify(const struct tree *tr, int root, struct err *e)
{
	for (size_t i = 0; i < tr->n; i++) {
		const struct submount *s = &tr->v[i];
		_cleanup_fd_ int fd = fd_open_in_root(root, s->point, O_PATH, 0);
		bool is_root = false;
		int id = -1, r = fd < 0 ? fd : mnt_is_root(fd, &is_root);

		if (r >= 0)
			r = mnt_id(fd, &id);
		if (r < 0 || !is_root || id != s->id)
			return err_set(e, -EIO,
				       "the mount at /%.200s was lost: the image hides it with "
				       "another",
				       s->point);
	}
	return 0;
}
