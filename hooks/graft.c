/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/graft.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks/mnt.h"
#include "hooks/tree.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"

/* An entry of the image's root directory, and what will stand for it in the stub. */
struct piece {
	char name[LIMIT_FILE_NAME + 1];
	char *link; /* owned: a symbolic link to make; NULL: a mount */
	bool dir;
	int fd; /* owned: the detached copy */
};

struct pieces {
	struct piece *v; /* owned; LIMIT_GRAFTS of them */
	size_t n;
};

static void pieces_free(struct pieces *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		free(ps->v[i].link);
		cleanup_closep(&ps->v[i].fd);
	}
	free(ps->v);
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* --- what there is to graft --- */

static int read_link(int dirfd, const char *name, char **ret)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, text, sizeof(text) - 1);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

/*
 * A link of the image where the stub has something else already: the runtime has made a directory
 * or file there to mount on. It gets what the link leads to within the image.
 */
static int take_linked(struct piece *p, int image, const struct stat *there)
{
	_cleanup_fd_ int fd = fd_open_in_root(image, p->name, O_PATH, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode) != S_ISDIR(there->st_mode))
		return S_ISDIR(there->st_mode) ? -ENOTDIR : -EISDIR;
	p->dir = S_ISDIR(st.st_mode);
	p->fd = mnt_clone(fd, true);
	return p->fd < 0 ? p->fd : 0;
}

static int take_piece(struct piece *p, const struct target *t, int image)
{
	struct stat st, there;

	if (fstatat(image, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode)) {
		if (fstatat(t->rootfs, p->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !S_ISLNK(there.st_mode))
			return take_linked(p, image, &there);
		return read_link(image, p->name, &p->link);
	}
	p->dir = S_ISDIR(st.st_mode);
	p->fd = mnt_clone_at(image, p->name, true);
	return p->fd < 0 ? p->fd : 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int take_pieces(struct pieces *ps, const struct tree *tr, const struct target *t, int image,
		       struct err *e)
{
	int fd = openat(image, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedirp) DIR *d = fd < 0 ? NULL : fdopendir(fd);

	ps->v = calloc(LIMIT_GRAFTS, sizeof(*ps->v));
	if (!d || !ps->v)
		return err_errno(e, d ? -ENOMEM : -errno, "the image's root directory");
	for (struct dirent *de = readdir(d); de; de = readdir(d)) {
		struct piece *p = &ps->v[ps->n];
		int r;

		if (is_dots(de->d_name) || tree_has_top(tr, de->d_name))
			continue;
		if (ps->n == LIMIT_GRAFTS)
			return err_set(e, -E2BIG,
				       "the image's root directory has more than %d entries: this "
				       "runtime needs tarn-runtime in front of it",
				       LIMIT_GRAFTS);
		memcpy(p->name, de->d_name, strnlen(de->d_name, LIMIT_FILE_NAME));
		p->fd = -1;
		ps->n++;
		r = take_piece(p, t, image);
		if (r < 0)
			return err_errno(e, r, "/%.200s of the image", p->name);
	}
	return 0;
}

/* --- into the stub --- */

static int place_link(const struct piece *p, int rootfs)
{
	_cleanup_free_ char *old = NULL;
	int r = read_link(rootfs, p->name, &old);

	if (r == 0 && strcmp(old, p->link) == 0)
		return 0;
	if (r == 0 && unlinkat(rootfs, p->name, 0) < 0)
		return -errno;
	if (r < 0 && r != -ENOENT)
		return r;
	return symlinkat(p->link, rootfs, p->name) < 0 ? -errno : 0;
}

/* A link in the stub that is none in the image: of an image that was run here before. */
static int make_room(const struct piece *p, int rootfs)
{
	struct stat st;

	if (fstatat(rootfs, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISLNK(st.st_mode) && unlinkat(rootfs, p->name, 0) < 0)
		return -errno;
	return 0;
}

static int make_file(int rootfs, const char *name)
{
	int fd = openat(rootfs, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	close(fd);
	return 0;
}

static int place_mount(const struct piece *p, const struct target *t, bool readonly)
{
	_cleanup_fd_ int place = -1;
	struct stat st;
	int id = -1, r = make_room(p, t->rootfs);

	if (r == 0)
		r = p->dir ? fd_mkdir(t->rootfs, p->name, 0755) : make_file(t->rootfs, p->name);
	if (r < 0)
		return r;
	place = fd_open_beneath(t->rootfs, p->name, O_PATH | O_NOFOLLOW, 0);
	if (place < 0)
		return place;
	r = fstat(place, &st) < 0 ? -errno : mnt_id(place, &id);
	if (r < 0)
		return r;
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode) != p->dir)
		return p->dir ? -ENOTDIR : -EISDIR;
	if (id != t->mount)
		return -EBUSY;
	/* The copies of the runtime's own mounts keep their options. */
	r = readonly ? mnt_set_readonly(p->fd) : 0;
	return r < 0 ? r : mnt_move(p->fd, place);
}

static int place_pieces(const struct pieces *ps, const struct target *t, bool readonly,
			struct err *e)
{
	for (size_t i = 0; i < ps->n; i++) {
		const struct piece *p = &ps->v[i];
		int r = p->link ? place_link(p, t->rootfs) : place_mount(p, t, readonly);

		if (r < 0)
			return err_errno(e, r, "grafting /%.200s of the image", p->name);
	}
	return 0;
}

/* --- the way there --- */

/* Before Linux 6.15 nothing can be mounted on, or copied from, what is not attached somewhere. */
static int assemble_attached(struct tree *tr, struct pieces *ps, const struct target *t, int image,
			     const char *cwd, struct err *e)
{
	int r = mnt_move(image, t->rootfs);

	if (r < 0)
		return err_errno(e, r, "mounting the image at %.300s", t->path);
	r = tree_place(tr, image, cwd, NULL, e);
	if (r == 0)
		r = take_pieces(ps, tr, t, image, e);
	if (r < 0)
		return r;
	return umount2(t->path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0
		       ? err_errno(e, -errno, "unmounting %.300s", t->path)
		       : 0;
}

static int assemble(struct tree *tr, struct pieces *ps, const struct target *t, int image,
		    const char *cwd, struct err *e)
{
	bool attach_first = false;
	int r = tree_place(tr, image, cwd, &attach_first, e);

	if (attach_first)
		return assemble_attached(tr, ps, t, image, cwd, e);
	return r < 0 ? r : take_pieces(ps, tr, t, image, e);
}

int graft(const struct target *t, int image, const char *cwd, bool readonly, struct err *e)
{
	_cleanup_(pieces_free) struct pieces ps = {0};
	_cleanup_tree_ struct tree tr = {0};
	int r = tree_copy(t, &tr, e);

	if (r == 0) {
		r = mnt_set_private(image);
		if (r < 0)
			err_errno(e, r, "making the image's mount private");
	}
	if (r == 0)
		r = assemble(&tr, &ps, t, image, cwd, e);
	if (r == 0)
		r = place_pieces(&ps, t, readonly, e);
	return r < 0 ? r : tree_verify(&tr, t, t->rootfs, e);
}
