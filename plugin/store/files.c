/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

#define DIR_MAX   (2 * DIGEST_HEX + 32)
#define NAME_MAX_ (DIGEST_HEX + 16)
#define TMP       ".tmp"

/* Where a file of the store is: the directory it is in, and its name there. */
struct place {
	char dir[DIR_MAX];
	char name[NAME_MAX_];
};

static void layer_dir(char *out, size_t size, const struct digest *diff_id,
		      const struct digest *scope)
{
	char hex[DIGEST_HEX + 1], scope_hex[DIGEST_HEX + 1];

	if (digest_is_zero(scope))
		snprintf(out, size, "layers/%s", digest_hex(diff_id, hex));
	else
		snprintf(out, size, "unproven/%s/%s", digest_hex(scope, scope_hex),
			 digest_hex(diff_id, hex));
}

static int find_place(const struct keep_file *f, struct place *p)
{
	static const char *const in_layer[KEEP_KINDS] = {
		[KEEP_TAR] = "tar",           [KEEP_INDEX] = "index",
		[KEEP_IMAGE] = "image.erofs", [KEEP_SOURCES] = "sources.json",
		[KEEP_PRESENT] = "present",
	};
	static const char *const in_top[KEEP_KINDS] = {
		[KEEP_INDEX_JSON] = "index.json",
		[KEEP_PINS] = "pins.json",
		[KEEP_LOST] = "lost",
	};
	char hex[DIGEST_HEX + 1];

	if (f->kind == 0 || f->kind >= KEEP_KINDS)
		return -EINVAL;
	if (in_top[f->kind]) {
		snprintf(p->dir, sizeof(p->dir), ".");
		snprintf(p->name, sizeof(p->name), "%s", in_top[f->kind]);
		return 0;
	}
	switch (f->kind) {
	case KEEP_RECORD:
		snprintf(p->dir, sizeof(p->dir), "images");
		snprintf(p->name, sizeof(p->name), "%s.json", digest_hex(&f->key, hex));
		return 0;
	case KEEP_PARENTS:
		snprintf(p->dir, sizeof(p->dir), "images");
		snprintf(p->name, sizeof(p->name), "%s.erofs", digest_hex(&f->key, hex));
		return 0;
	case KEEP_BLOB:
		snprintf(p->dir, sizeof(p->dir), "blobs/sha256");
		snprintf(p->name, sizeof(p->name), "%s", digest_hex(&f->key, hex));
		return 0;
	case KEEP_MAP:
		snprintf(p->name, sizeof(p->name), "blob-%s.map", digest_hex(&f->second, hex));
		break;
	default:
		if (!in_layer[f->kind])
			return -EINVAL;
		snprintf(p->name, sizeof(p->name), "%s", in_layer[f->kind]);
		break;
	}
	layer_dir(p->dir, sizeof(p->dir), &f->key, &f->scope);
	return 0;
}

/* Makes @path below @store one component at a time. */
static int make_dirs(int store, const char *path)
{
	char part[DIR_MAX];
	int r = 0;

	for (const char *end = path; r == 0 && *end;) {
		end = strchrnul(*end == '/' ? end + 1 : end, '/');
		snprintf(part, sizeof(part), "%.*s", (int)(end - path), path);
		r = fd_mkdir(store, part, 0700);
	}
	return r;
}

static int open_dir(int store, const char *dir)
{
	return fd_open_beneath(store, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

static int sync_dir(int store, const char *dir)
{
	_cleanup_fd_ int fd = open_dir(store, dir);

	return fd < 0 ? fd : fsync(fd) < 0 ? -errno : 0;
}

int store_file_open(int store, const struct keep_file *f, int flags, struct err *e)
{
	struct place p;
	char path[DIR_MAX + NAME_MAX_ + 2];
	int fd;

	if (find_place(f, &p) < 0)
		return err_set(e, -EINVAL, "no such kind of file: %u", f->kind);
	snprintf(path, sizeof(path), "%s/%s", p.dir, p.name);
	fd = fd_open_beneath(store, path, flags | O_CLOEXEC, 0);
	return fd < 0 ? err_errno(e, fd, "store: %s", path) : fd;
}

int store_file_create(int store, const struct keep_file *f, struct err *e)
{
	struct place p;
	char path[DIR_MAX + NAME_MAX_ + sizeof(TMP) + 2];
	int r;

	if (find_place(f, &p) < 0)
		return err_set(e, -EINVAL, "no such kind of file: %u", f->kind);
	r = make_dirs(store, p.dir);
	if (r < 0)
		return err_errno(e, r, "store: %s", p.dir);
	snprintf(path, sizeof(path), "%s/%s" TMP, p.dir, p.name);
	/* A new inode each time: a writer of an earlier life may still have the old one. */
	unlinkat(store, path, 0);
	r = fd_open_beneath(store, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return r < 0 ? err_errno(e, r, "store: %s", path) : r;
}

int store_file_publish(int store, const struct keep_file *f, struct err *e)
{
	struct place p;
	char tmp[NAME_MAX_ + sizeof(TMP)];
	_cleanup_fd_ int dir = -1;
	_cleanup_fd_ int fd = -1;

	if (find_place(f, &p) < 0)
		return err_set(e, -EINVAL, "no such kind of file: %u", f->kind);
	snprintf(tmp, sizeof(tmp), "%s" TMP, p.name);
	dir = open_dir(store, p.dir);
	if (dir < 0)
		return err_errno(e, dir, "store: %s", p.dir);
	fd = fd_open_beneath(dir, tmp, O_RDONLY | O_CLOEXEC, 0);
	if (fd == -ENOENT && faccessat(dir, p.name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		/* Asked again after a keeper that had renamed it and died, the last step perhaps
		 * open. */
		if (fsync(dir) < 0)
			return err_errno(e, -errno, "store: %s", p.dir);
		return 0;
	}
	if (fd < 0)
		return err_errno(e, fd, "store: %s/%s", p.dir, tmp);
	if (fsync(fd) < 0)
		return err_errno(e, -errno, "store: %s/%s", p.dir, tmp);
	return fd_publish_rename(dir, tmp, p.name, e);
}

int store_file_drop(int store, const struct keep_file *f, struct err *e)
{
	struct place p;
	char path[DIR_MAX + NAME_MAX_ + sizeof(TMP) + 2];
	int r;

	if (find_place(f, &p) < 0)
		return err_set(e, -EINVAL, "no such kind of file: %u", f->kind);
	snprintf(path, sizeof(path), "%s/%s" TMP, p.dir, p.name);
	unlinkat(store, path, 0);
	snprintf(path, sizeof(path), "%s/%s", p.dir, p.name);
	if (unlinkat(store, path, 0) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "store: %s", path);
	/* Until that is on disk it may come back, and say that there is what is gone by then. */
	r = sync_dir(store, p.dir);
	return r < 0 && r != -ENOENT ? err_errno(e, r, "store: %s", p.dir) : 0;
}

int store_layer_drop(int store, const struct digest *diff_id, const struct digest *scope,
		     struct err *e)
{
	char dir[DIR_MAX], index[DIR_MAX + 8];
	int r;

	layer_dir(dir, sizeof(dir), diff_id, scope);
	/* Without its index a layer does not exist, however far the rest of the removal gets. */
	snprintf(index, sizeof(index), "%s/index", dir);
	unlinkat(store, index, 0);
	r = fd_remove_tree(store, dir);
	return r < 0 && r != -ENOENT ? err_errno(e, r, "store: %s", dir) : 0;
}

/* Is @name the entry of a digest in a listing of @kind? */
static bool listed(int dir, uint32_t kind, const char *name, struct digest *ret)
{
	char index[DIGEST_HEX + 8];
	size_t len = strlen(name);

	if (kind == KEEP_RECORD)
		return len == DIGEST_HEX + 5 && !strcmp(name + DIGEST_HEX, ".json") &&
		       digest_parse_hex(name, DIGEST_HEX, ret) == 0;
	if (len != DIGEST_HEX || digest_parse_hex(name, len, ret) < 0)
		return false;
	snprintf(index, sizeof(index), "%s/index", name);
	return faccessat(dir, index, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

struct listing {
	uint32_t kind;
	int out; /* borrowed */
};

static int list_entry(void *ctx, int dir, const char *name)
{
	const struct listing *l = ctx;
	struct digest digest;

	return listed(dir, l->kind, name, &digest) ? fd_write_full(l->out, &digest, sizeof(digest))
						   : 0;
}

int store_list(int store, uint32_t kind, struct err *e)
{
	const char *dir = kind == KEEP_RECORD ? "images" : "layers";
	_cleanup_fd_ int out = memfd_create("tarn-list", MFD_CLOEXEC);
	struct listing l = {.kind = kind, .out = out};
	int r;

	if (kind != KEEP_RECORD && kind != KEEP_INDEX)
		return store_leftovers(store, kind, e);
	r = out < 0 ? -errno : fd_each_entry(open_dir(store, dir), list_entry, &l);
	return r < 0 ? err_errno(e, r, "store: %s", dir) : take_fd(&out);
}

int store_layout_open(const struct keep_layout *l, struct err *e)
{
	char hex[DIGEST_HEX + 1], name[DIGEST_HEX + 16];
	_cleanup_fd_ int dir = -1;
	_cleanup_fd_ int fd = -1;
	struct stat st;

	if (l->dir[0] != '/' || !memchr(l->dir, '\0', sizeof(l->dir)))
		return err_set(e, -EINVAL, "an image layout needs an absolute path");
	if (l->which == KEEP_LAYOUT_BLOB)
		snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(&l->digest, hex));
	else
		snprintf(name, sizeof(name), "%s",
			 l->which == KEEP_LAYOUT_VERSION ? "oci-layout" : "index.json");
	dir = open(l->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(e, -errno, "image layout %s", l->dir);
	/* Links inside a layout (blobs shared between layouts) stay inside it. */
	fd = fd_open_in_root(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, fd, "image layout %s: %s", l->dir, name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "image layout %s: %s is not a file", l->dir, name);
	return take_fd(&fd);
}

static bool is_tmp(const char *name)
{
	size_t n = strlen(name);

	return !strncmp(name, STORE_TMP_PREFIX, strlen(STORE_TMP_PREFIX)) ||
	       (n > strlen(TMP) && !strcmp(name + n - strlen(TMP), TMP));
}

/* What cannot be read now is swept another time. */
static int sweep(void *ctx, int dir, const char *name)
{
	int depth = *(const int *)ctx - 1;

	if (is_tmp(name))
		unlinkat(dir, name, 0);
	else if (depth >= 0 && name[0] != '.')
		fd_each_entry(open_dir(dir, name), sweep, &depth);
	return 0;
}

void store_sweep(int store)
{
	/* The directories of the store, and how deep theirs go. */
	static const struct {
		const char *name;
		int depth;
	} dirs[] = {{".", 0},     {"resolver", 1}, {"images", 0},
		    {"blobs", 1}, {"layers", 1},   {"unproven", 2}};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		int depth = dirs[i].depth;

		fd_each_entry(open_dir(store, dirs[i].name), sweep, &depth);
	}
}
