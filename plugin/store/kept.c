/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/kept.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"

static const char *words(const struct keep_file *f)
{
	static const char *const names[KEEP_KINDS] = {
		[KEEP_TAR] = "tar",
		[KEEP_INDEX] = "index",
		[KEEP_IMAGE] = "image.erofs",
		[KEEP_MAP] = "blob map",
		[KEEP_SOURCES] = "sources.json",
		[KEEP_PRESENT] = "present",
		[KEEP_RECORD] = "record",
		[KEEP_BLOB] = "blob",
		[KEEP_INDEX_JSON] = "index.json",
		[KEEP_PINS] = "pins.json",
		[KEEP_PARENTS] = "parents image",
		[KEEP_LOST] = "list of lost layers",
	};

	return f->kind < KEEP_KINDS && names[f->kind] ? names[f->kind] : "file";
}

struct keep_file file_of_layer(enum keep_kind kind, const struct digest *diff_id,
			       const struct digest *scope)
{
	struct keep_file f = {.kind = kind, .key = *diff_id};

	if (scope)
		f.scope = *scope;
	return f;
}

struct keep_file file_of_map(const struct digest *diff_id, const struct digest *scope,
			     const struct digest *blob)
{
	struct keep_file f = file_of_layer(KEEP_MAP, diff_id, scope);

	f.second = *blob;
	return f;
}

struct keep_file file_of(enum keep_kind kind, const struct digest *key)
{
	struct keep_file f = {.kind = kind};

	if (key)
		f.key = *key;
	return f;
}

/* One request about one file. A failure is worded with what the file is. */
static int call(struct engine *en, enum keep_op op, const struct keep_file *f, int *ret_fd,
		struct err *e)
{
	struct keep_request req = {.op = op, .file = *f};
	struct keep_reply rep;
	int fd = -1;
	int r;

	r = keep_call(en->keep, &req, &rep, ret_fd ? &fd : NULL, ret_fd ? 1 : 0, e);
	if (r == 0 && ret_fd && fd < 0)
		r = err_set(e, -EPROTO, "the keeper sent no descriptor");
	if (r < 0)
		return err_wrap(e, r, "%s", words(f));
	if (ret_fd)
		*ret_fd = fd;
	return 0;
}

int file_open(struct engine *en, const struct keep_file *f, int *ret_fd, struct err *e)
{
	return call(en, KEEP_FILE_OPEN, f, ret_fd, e);
}

int file_read(struct engine *en, const struct keep_file *f, struct buf *out, struct err *e)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;
	int r;

	r = file_open(en, f, &fd, e);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "%s", words(f));
	/* One allocation of the right size: an index can be a gigabyte. */
	if (st.st_size > 0 && (uint64_t)st.st_size < out->max)
		(void)buf_reserve(out, (size_t)st.st_size + 1);
	r = fd_read_all(fd, out);
	if (r == -EFBIG)
		return err_set(e, -EBADMSG, "%s: larger than any of ours", words(f));
	if (r < 0)
		return err_errno(e, r, "%s: reading", words(f));
	return 0;
}

bool file_exists(struct engine *en, const struct keep_file *f)
{
	_cleanup_fd_ int fd = -1;

	return file_open(en, f, &fd, NULL) == 0;
}

int file_create(struct engine *en, const struct keep_file *f, int *ret_fd, struct err *e)
{
	return call(en, KEEP_FILE_CREATE, f, ret_fd, e);
}

int file_publish(struct engine *en, const struct keep_file *f, struct err *e)
{
	return call(en, KEEP_FILE_PUBLISH, f, NULL, e);
}

int file_drop(struct engine *en, const struct keep_file *f, struct err *e)
{
	struct err own = ERR_INIT;
	int r = call(en, KEEP_FILE_DROP, f, NULL, &own);

	if (r == 0 || r == -ENOENT)
		return 0;
	return err_take(e, r, own.text, &own.links);
}

int file_write(struct engine *en, const struct keep_file *f, const void *data, size_t len,
	       struct err *e)
{
	_cleanup_fd_ int fd = -1;
	int r;

	r = file_create(en, f, &fd, e);
	if (r < 0)
		return r;
	r = fd_pwrite_full(fd, data, len, 0);
	if (r < 0)
		return err_errno(e, r, "%s: writing", words(f));
	return file_publish(en, f, e);
}

int file_update(struct engine *en, const struct keep_file *f, const void *data, size_t len,
		struct err *e)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, len);
	if (file_read(en, f, &b, NULL) == 0 && b.len == len &&
	    (len == 0 || memcmp(b.data, data, len) == 0))
		return 0;
	return file_write(en, f, data, len, e);
}

/* What the keeper lists of a kind, elements of @size bytes each. */
static int list(struct engine *en, enum keep_kind kind, size_t size, void **ret, size_t *ret_n,
		struct err *e)
{
	struct keep_request req = {.op = KEEP_LIST, .list.kind = kind};
	_cleanup_free_ void *v = NULL;
	_cleanup_fd_ int fd = -1;
	struct keep_reply rep;
	struct stat st;
	size_t n;
	int r;

	r = keep_call(en->keep, &req, &rep, &fd, 1, e);
	if (r < 0)
		return err_wrap(e, r, "listing the store");
	if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size % size != 0)
		return err_set(e, -EPROTO, "listing the store: the keeper sent no list");
	n = (size_t)st.st_size / size;
	v = calloc(n ? n : 1, size);
	if (!v)
		return err_errno(e, -ENOMEM, "listing the store");
	r = fd_pread_full(fd, v, n * size, 0);
	if (r < 0)
		return err_errno(e, r, "listing the store");
	*ret = take_ptr(v);
	*ret_n = n;
	return 0;
}

int file_list(struct engine *en, enum keep_kind kind, struct digest **ret, size_t *ret_n,
	      struct err *e)
{
	return list(en, kind, sizeof(**ret), (void **)ret, ret_n, e);
}

int file_list_found(struct engine *en, enum keep_kind kind, struct keep_found **ret, size_t *ret_n,
		    struct err *e)
{
	return list(en, kind, sizeof(**ret), (void **)ret, ret_n, e);
}

int layer_drop(struct engine *en, const struct digest *diff_id, const struct digest *scope,
	       struct err *e)
{
	struct keep_request req = {.op = KEEP_LAYER_DROP, .layer.diff_id = *diff_id};
	struct keep_reply rep;

	if (scope)
		req.layer.scope = *scope;
	return keep_call(en->keep, &req, &rep, NULL, 0, e);
}
