/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/graft.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks/mnt.h"
#include "hooks/pieces.h"
#include "hooks/target.h"
#include "hooks/tree.h"
#include "hooks/walk.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/* --- aside: a file system of its own on top of the root directory, for as long as it takes --- */

static int open_aside(const struct target *t, struct err *e)
{
	int fd;

	/* By path: mount(2) knows no other way; target_enter() has looked at what is there. */
	if (mount("tarn", t->path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700") < 0)
		return err_errno(e, -errno, "putting mounts aside");
	fd = open(t->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "putting mounts aside");
	return fd;
}

static int close_aside(const struct target *t, struct err *e)
{
	return umount2(t->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0
		       ? err_errno(e, -errno, "unmounting what mounts were put aside on")
		       : 0;
}

static int put_one(int aside, size_t i, const struct submount *s)
{
	_cleanup_fd_ int place = -1;
	char name[24];

	snprintf(name, sizeof(name), "%zu", i);
	if (s->dir) {
		if (mkdirat(aside, name, 0700) < 0)
			return -errno;
		place = openat(aside, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	} else {
		place = openat(aside, name, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	}
	return place < 0 ? -errno : mnt_move(s->fd, place);
}

static int put_aside(int aside, const struct tree *tr, struct err *e)
{
	for (size_t i = 0; i < tr->n; i++) {
		int r = put_one(aside, i, &tr->v[i]);

		if (r < 0)
			return err_errno(e, r, "putting the mount at /%.200s aside",
					 tr->v[i].point);
	}
	return 0;
}

/* Attached for as long as it is copied. */
static int take_pieces(int aside, int image, struct pieces *ret, struct err *e)
{
	_cleanup_fd_ int place = -1;
	int r;

	if (mkdirat(aside, "image", 0700) < 0)
		return err_errno(e, -errno, "mounting the image");
	place = openat(aside, "image", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = place < 0 ? -errno : mnt_set_private(image);
	if (r == 0)
		r = mnt_move(image, place);
	return r < 0 ? err_errno(e, r, "mounting the image") : pieces_take(image, ret, e);
}

/* --- the stub --- */

/* What a mount of the runtime's covers as a whole needs no piece below it. */
static bool is_covered(const struct piece *p, const struct tree *tr)
{
	return p->dir && tree_has_top(tr, p->name);
}

static int place_pieces(const struct pieces *ps, const struct tree *tr, const struct target *t,
			struct err *e)
{
	for (size_t i = 0; i < ps->n; i++) {
		const struct piece *p = &ps->v[i];
		int r = is_covered(p, tr) ? 0 : piece_place(p, t->rootfs, t->mount);

		if (r == -ENOTEMPTY)
			return err_set(e, r,
				       "grafting /%.200s of the image: %.200s holds something "
				       "else of that name",
				       p->name, t->path);
		if (r < 0)
			return err_errno(e, r, "grafting /%.200s of the image", p->name);
	}
	return 0;
}

static int make_cwd(const struct target *t, const char *cwd, struct err *e)
{
	_cleanup_fd_ int fd = walk_in_root(t->rootfs, cwd, WALK_DIR, e);

	return fd < 0 ? err_wrap(e, fd, "working directory") : 0;
}

/* Last of all, and not the runtime's mounts on them: those have options of their own. */
static int make_readonly(const struct pieces *ps, struct err *e)
{
	for (size_t i = 0; i < ps->n; i++) {
		int r = ps->v[i].link ? 0 : mnt_set_readonly(ps->v[i].fd);

		if (r < 0)
			return err_errno(e, r, "making /%.200s read-only", ps->v[i].name);
	}
	return 0;
}

int graft(const struct target *t, int image, const char *cwd, bool readonly, struct err *e)
{
	_cleanup_pieces_ struct pieces ps = {0};
	_cleanup_tree_ struct tree tr = {0};
	_cleanup_fd_ int aside = -1;
	int r = tree_find(t, &tr, e);

	if (r == 0)
		r = aside = open_aside(t, e);
	if (r >= 0)
		r = put_aside(aside, &tr, e);
	if (r == 0)
		r = take_pieces(aside, image, &ps, e);
	if (r == 0)
		r = place_pieces(&ps, &tr, t, e);
	if (r == 0)
		r = tree_place(&tr, t->rootfs, e);
	if (r == 0 && cwd)
		r = make_cwd(t, cwd, e);
	if (r == 0 && readonly)
		r = make_readonly(&ps, e);
	if (r == 0)
		r = close_aside(t, e);
	return r < 0 ? r : tree_verify(&tr, t->rootfs, e);
}
