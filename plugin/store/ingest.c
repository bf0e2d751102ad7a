/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/ingest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/erofs/image.h"
#include "oci/index/index.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/pass.h"
#include "plugin/store/present.h"

/* --- what is there --- */

int layer_index_read(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		     struct index *ret, void **ret_bytes, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_INDEX, diff_id, scope);
	char what[DIGEST_TEXT + 8] = "layer ";
	_cleanup_buf_ struct buf b;
	struct index ix;
	int r;

	digest_text(diff_id, what + strlen(what));
	buf_init(&b, LIMIT_INDEX_FILE);
	r = file_read(en, &f, &b, e);
	if (r < 0)
		return err_wrap(e, r, "%s", what);
	r = index_decode(b.data, b.len, what, &ix, e);
	if (r < 0)
		return r;
	if (!digest_equal(&ix.diff_id, diff_id))
		return err_set(e, -EBADMSG, "%s: the index is another layer's", what);
	*ret = ix;
	*ret_bytes = take_ptr(b.data);
	return 0;
}

int layer_exists(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		 const struct digest *blob, uint64_t *ret_tar_size, struct err *e)
{
	struct keep_file map = file_of_map(diff_id, scope, blob);
	_cleanup_free_ void *bytes = NULL;
	struct err why = ERR_INIT;
	struct index ix;
	int r;

	r = layer_index_read(en, diff_id, scope, &ix, &bytes, &why);
	if (r == -EBADMSG) {
		/* Nothing can be done with it; what is mounted keeps its copy in memory. */
		log_warn("%s; it is made anew", why.text);
		r = layer_drop(en, diff_id, scope, e);
		return r == -ENOENT ? 0 : r;
	}
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_take(e, r, why.text, &why.links);
	*ret_tar_size = ix.tar_size;
	return file_exists(en, &map) ? 2 : 1;
}

/* --- what is made --- */

int layer_image_write(struct engine *en, const struct index *ix, const struct digest *scope,
		      const char *what, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_IMAGE, &ix->diff_id, scope);
	_cleanup_fd_ int fd = -1;
	int r;

	r = file_create(en, &f, &fd, e);
	if (r == 0)
		r = erofs_image_write(ix, what, fd, e);
	if (r == 0)
		r = file_publish(en, &f, e);
	return r;
}

static int write_map(const struct ingest *in, const struct pass *p, struct err *e)
{
	struct keep_file f = file_of_map(&in->diff_id, &in->scope, &in->blob.digest);

	return file_write(in->en, &f, p->map.data, p->map.len, e);
}

static int write_index(const struct ingest *in, const struct index *ix, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_INDEX, &in->diff_id, &in->scope);
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_INDEX_FILE);
	r = index_encode(ix, &b);
	if (r < 0)
		return err_errno(e, r, "index");
	return file_write(in->en, &f, b.data, b.len, e);
}

static int write_present(const struct ingest *in, const struct index *ix, struct err *e)
{
	_cleanup_(present_free) struct present p = {.nspans = 0};

	if (present_new(&in->diff_id, ix->nspans, &p) < 0)
		return err_errno(e, -ENOMEM, "present");
	p.flags = PRESENT_CLEAN;
	if (in->keep)
		present_fill(&p);
	return present_store(in->en, &in->scope, &p, e);
}

/*
 * The tar's own descriptor was opened before the first byte was written, so it hears of every
 * write that failed on the way to the disk (law 5). Then its full size, then its name.
 *
 * #syscalls engine: ftruncate fdatasync
 */
static int finish_tar(const struct ingest *in, int fd, uint64_t size, struct err *e)
{
	struct keep_file f = file_of_layer(KEEP_TAR, &in->diff_id, &in->scope);

	if (ftruncate(fd, (off_t)layer_file_size(size)) < 0 || fdatasync(fd) < 0)
		return err_errno(e, -errno, "writing its content");
	return file_publish(in->en, &f, e);
}

static int make_new(struct ingest *in, struct err *e)
{
	struct keep_file tar = file_of_layer(KEEP_TAR, &in->diff_id, &in->scope);
	_cleanup_(pass_done) struct pass p = {.in = in, .fd_tar = -1};
	_cleanup_fd_ int fd = -1;
	struct index ix;
	int r;

	r = file_create(in->en, &tar, &fd, e);
	if (r < 0)
		return err_wrap(e, r, "%s", in->what);
	p.fd_tar = in->keep ? fd : -1;
	r = pass_run(&p, e);
	if (r < 0)
		return r;
	in->keep = p.fd_tar >= 0;
	ix = pass_index(&p);
	r = finish_tar(in, fd, p.tar_size, e);
	if (r == 0)
		r = layer_image_write(in->en, &ix, &in->scope, "index image", e);
	if (r == 0)
		r = write_map(in, &p, e);
	if (r == 0)
		r = write_present(in, &ix, e);
	if (r == 0)
		r = sources_remember(in->en, &in->diff_id, &in->scope, in->from, e);
	if (r == 0)
		r = write_index(in, &ix, e);
	if (r < 0)
		return err_wrap(e, r, "%s", in->what);
	pass_settle(&p, true);
	in->tar_size = p.tar_size;
	return 0;
}

/* The tar is known, this way to it is not. */
static int add_map(struct ingest *in, const struct index *known, struct err *e)
{
	_cleanup_(pass_done) struct pass p = {.in = in, .fd_tar = -1, .known = known};
	int r;

	r = pass_run(&p, e);
	if (r < 0)
		return r;
	r = write_map(in, &p, e);
	if (r == 0)
		r = sources_remember(in->en, &in->diff_id, &in->scope, in->from, e);
	in->tar_size = known->tar_size;
	return r < 0 ? err_wrap(e, r, "%s", in->what) : 0;
}

int layer_ingest(struct ingest *in, struct err *e)
{
	_cleanup_free_ void *bytes = NULL;
	struct err why = ERR_INIT;
	struct index known;
	int r;

	r = layer_index_read(in->en, &in->diff_id, &in->scope, &known, &bytes, &why);
	if (r == 0)
		return add_map(in, &known, e);
	if (r != -ENOENT)
		return err_take(e, r, why.text, &why.links);
	/* What an earlier attempt left behind would only be in the way. */
	r = layer_drop(in->en, &in->diff_id, &in->scope, e);
	if (r < 0 && r != -ENOENT)
		return err_wrap(e, r, "%s", in->what);
	r = make_new(in, e);
	if (r < 0)
		(void)layer_drop(in->en, &in->diff_id, &in->scope, NULL);
	return r;
}
