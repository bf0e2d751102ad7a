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

/* --- copies of what is there --- */

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
static int copy_one(const struct target *t, const struct mountinfo *m, const char *point,
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
	ret->fd = mnt_clone(fd, true);
	if (ret->fd < 0)
		return err_errno(e, ret->fd, "copying the runtime's mount at /%.200s", point);
	ret->point = point;
	ret->id = id;
	ret->dir = S_ISDIR(st.st_mode);
	ret->system = is_system(m, point);
	return 0;
}

static bool is_listed(const struct tree *tr, const char *point)
{
	for (size_t i = 0; i < tr->n; i++)
		if (strcmp(tr->v[i].point, point) == 0)
			return true;
	return false;
}

int tree_copy(const struct target *t, struct tree *ret, struct err *e)
{
	_cleanup_tree_ struct tree tr = {0};

	tr.v = calloc(t->tab.n + 1, sizeof(*tr.v));
	if (!tr.v)
		return err_errno(e, -ENOMEM, "copying mounts");
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
		r = copy_one(t, m, point, &tr.v[tr.n], e);
		if (r < 0)
			return r;
		tr.n++;
	}
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

static int place_one(const struct submount *s, int image, bool *ret_detached, struct err *e)
{
	_cleanup_fd_ int place = walk_in_root(image, s->point, want_of(s), e);
	int r;

	if (place < 0)
		return place;
	r = mnt_move(s->fd, place);
	if (r == -EINVAL && ret_detached)
		*ret_detached = true;
	return r < 0 ? err_errno(e, r, "mounting at /%.200s in the image", s->point) : 0;
}

/*
 * Mounts made with an absolute path in a directory that is a link in the image may end up below
 * each other. The shorter path goes first, as it must have been with the runtime.
 */
static int by_depth(const void *a, const void *b)
{
	const struct submount *x = a, *y = b;
	size_t nx = strlen(x->point), ny = strlen(y->point);

	if (nx != ny)
		return nx < ny ? -1 : 1;
	return strcmp(x->point, y->point);
}

static int make_cwd(int image, const char *cwd, struct err *e)
{
	_cleanup_fd_ int fd = walk_in_root(image, cwd, WALK_DIR, e);

	return fd < 0 ? err_wrap(e, fd, "working directory") : 0;
}

/* Is the directory below one of the submounts? Then it is the runtime's to make. */
static bool is_covered(const struct tree *tr, const char *path)
{
	path += strspn(path, "/");
	for (size_t i = 0; i < tr->n; i++) {
		size_t len = strlen(tr->v[i].point);

		if (strncmp(path, tr->v[i].point, len) == 0 &&
		    (path[len] == '/' || path[len] == '\0'))
			return true;
	}
	return false;
}

int tree_place(struct tree *tr, int image, const char *cwd, bool *ret_detached, struct err *e)
{
	if (ret_detached)
		*ret_detached = false;
	qsort(tr->v, tr->n, sizeof(tr->v[0]), by_depth);
	if (cwd && !is_covered(tr, cwd)) {
		int r = make_cwd(image, cwd, e);

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < tr->n; i++) {
		int r = place_one(&tr->v[i], image, i == 0 ? ret_detached : NULL, e);

		if (r < 0)
			return r;
	}
	return 0;
}

bool tree_has_top(const struct tree *tr, const char *name)
{
	return is_listed(tr, name);
}

/* --- afterwards --- */

static bool same_mount(const struct mountinfo *a, const struct mountinfo *b)
{
	return strcmp(a->dev, b->dev) == 0 && strcmp(a->root, b->root) == 0 &&
	       strcmp(a->options, b->options) == 0 && strcmp(a->fstype, b->fstype) == 0;
}

/* What @m is called below the mount @top that it is within: "" for itself. */
static const char *name_within(const struct mountinfo *m, const struct mountinfo *top)
{
	size_t len = strlen(top->point);

	return strlen(m->point) >= len ? m->point + len : m->point;
}

/* Of the copy, whose top is @top: is there one like @m, called @name? */
static bool has_like(const struct mounttab *now, const struct mountinfo *top,
		     const struct mountinfo *m, const char *name)
{
	for (size_t i = 0; i < now->n; i++)
		if (same_mount(&now->v[i], m) && mounttab_within(now, &now->v[i], top->id) &&
		    strcmp(name_within(&now->v[i], top), name) == 0)
			return true;
	return false;
}

static int verify_one(const struct submount *s, const struct target *t, const struct mounttab *now,
		      int root, struct err *e)
{
	_cleanup_fd_ int fd = fd_open_in_root(root, s->point, O_PATH, 0);
	const struct mountinfo *top = mounttab_by_id(&t->tab, s->id), *copy;
	bool is_root = false;
	int id = -1, r = fd < 0 ? fd : mnt_is_root(fd, &is_root);

	if (r >= 0)
		r = mnt_id(fd, &id);
	copy = r >= 0 && is_root ? mounttab_by_id(now, id) : NULL;
	if (!top || !copy)
		return err_set(e, -EIO, "the mount at /%.200s was lost", s->point);
	for (size_t i = 0; i < t->tab.n; i++) {
		const struct mountinfo *m = &t->tab.v[i];

		if (mounttab_within(&t->tab, m, top->id) &&
		    !has_like(now, copy, m, name_within(m, top)))
			return err_set(e, -EIO, "the mount at /%.100s%.100s was lost", s->point,
				       name_within(m, top));
	}
	return 0;
}

int tree_verify(const struct tree *tr, const struct target *t, int root, struct err *e)
{
	struct mounttab now = {0};
	int r = mounttab_read(t->proc, &now, e);

	for (size_t i = 0; r == 0 && i < tr->n; i++)
		r = verify_one(&tr->v[i], t, &now, root, e);
	mounttab_free(&now);
	return r;
}
