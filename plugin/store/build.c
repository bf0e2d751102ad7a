/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/build.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/store/ingest.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/layout.h"
#include "plugin/store/present.h"
#include "plugin/store/sources.h"

void layer_source_free(struct layer_source *s)
{
	blobmap_free(s->map);
	free(s->map_bytes);
	if (s->fd >= 0)
		close(s->fd);
	explicit_bzero(&s->at.at, sizeof(s->at.at));
}

struct layer *layer_free(struct layer *l)
{
	if (!l)
		return NULL;
	for (uint32_t i = 0; i < l->nsources; i++)
		layer_source_free(&l->sources[i]);
	free(l->sources);
	layer_spans_free(l);
	extents_free(&l->extents);
	free(l->index_bytes);
	cleanup_closep(&l->fd_fill);
	cleanup_closep(&l->fd_image);
	free(l);
	return NULL;
}

DEFINE_CLEANUP(struct layer, layer_free)

/* --- what the layer is --- */

/* Of the index only the digests are needed from here on; the names in it can be a gigabyte. */
static int load_index(struct engine *en, struct layer *l, struct err *e)
{
	_cleanup_free_ void *bytes = NULL;
	struct index ix;
	size_t len;
	int r;

	r = layer_index_read(en, &l->diff_id, &l->scope, &ix, &bytes, e);
	if (r < 0)
		return r;
	len = (size_t)ix.nspans * sizeof(struct digest);
	l->index_bytes = malloc(len ? len : 1);
	if (!l->index_bytes)
		return err_errno(e, -ENOMEM, "the index");
	if (len)
		memcpy(l->index_bytes, ix.digests, len);
	l->index_len = len;
	l->index = ix;
	l->index.digests = l->index_bytes;
	l->index.toc = NULL;
	l->index.toc_len = 0;
	return 0;
}

static int load_image(struct layer *l, bool *ret_image_bad, struct err *e)
{
	int r = extents_load(l->fd_image, &l->extents, e);

	if (r == 0 && (!digest_equal(&l->extents.diff_id, &l->diff_id) ||
		       l->extents.tar_size != l->index.tar_size))
		r = err_set(e, -EBADMSG, "image.erofs is another layer's");
	*ret_image_bad = r == -EBADMSG;
	return r;
}

static int check_tar(const struct layer *l, struct err *e)
{
	struct stat st;

	if (fstat(l->fd_fill, &st) < 0)
		return err_errno(e, -errno, "the tar");
	if ((uint64_t)st.st_size != layer_file_size(l->index.tar_size))
		return err_set(e, -EUCLEAN, "the tar has not the size that the index says");
	return 0;
}

/* --- where its bytes come from --- */

static int load_map(struct engine *en, const struct layer *l, struct layer_source *s, struct err *e)
{
	struct keep_file f = file_of_map(&l->diff_id, &l->scope, &s->at.blob);
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_MAP_FILE);
	r = file_read(en, &f, &b, e);
	if (r < 0)
		return r;
	r = blobmap_decode(b.data, b.len, "blob map", &s->map, e);
	if (r < 0)
		return r;
	s->map_bytes = take_ptr(b.data);
	if (!digest_equal(blobmap_digest(s->map), &s->at.blob) ||
	    blobmap_nspans(s->map) != l->index.nspans ||
	    blobmap_span_size(s->map) != l->index.span_size)
		return err_set(e, -EBADMSG, "the blob map is of another layer");
	s->at.blob_size = blobmap_blob_size(s->map);
	return 0;
}

int layer_source_load(struct engine *en, const struct layer *l, const struct source *from,
		      struct layer_source *ret, struct err *e)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->fd = -1;
	ret->at.local = from->local;
	ret->at.at = from->at;
	ret->at.blob = from->blob;
	memcpy(ret->dir, from->dir, sizeof(ret->dir));
	if (!from->local)
		login_recall(en->slots, &ret->at.at);
	r = load_map(en, l, ret, e);
	if (r < 0)
		layer_source_free(ret);
	return r;
}

void layer_source_open(struct engine *en, struct layer_source *s)
{
	struct err e = ERR_INIT;

	if (s->at.local &&
	    layout_blob_open(en, s->dir, &s->at.blob, s->at.blob_size, &s->fd, &e) == 0)
		s->opened = true;
}

/* One whose map is not there, or none of ours, is left out; what may pass is an error. */
static int add_source(struct engine *en, struct layer *l, const struct source *from, struct err *e)
{
	struct err why = ERR_INIT;
	char text[DIGEST_TEXT];
	int r = layer_source_load(en, l, from, &l->sources[l->nsources], &why);

	if (r == 0)
		l->nsources++;
	else if (r == -ENOENT || r == -EBADMSG)
		log_warn("layer %s: a source is left out: %s", digest_text(&l->diff_id, text),
			 why.text);
	else
		return err_take(e, r, why.text, &why.links);
	return 0;
}

/* Local ones first; among equals the newest, which was last seen to work. */
static int load_sources(struct engine *en, struct layer *l, struct err *e)
{
	_cleanup_(sources_free) struct sources list = {.n = 0};
	int r;

	r = sources_load(en, &l->diff_id, &l->scope, &list, e);
	if (r < 0)
		return r;
	l->sources = calloc(list.n ? list.n : 1, sizeof(*l->sources));
	if (!l->sources)
		return err_errno(e, -ENOMEM, "the sources");
	for (int local = 1; local >= 0; local--) {
		for (size_t i = list.n; r == 0 && i-- > 0;) {
			if (list.v[i].local == (local == 1))
				r = add_source(en, l, &list.v[i], e);
		}
	}
	return r;
}

/* --- what is there of it --- */

static void set_spans(struct layer *l, const struct present *p)
{
	bool clean = p->flags & PRESENT_CLEAN;

	for (uint32_t i = 0; i < p->nspans; i++) {
		if (present_bit(p->durable, i))
			span_set(l, i, clean ? SPAN_CLEAN : SPAN_UNPROVEN);
		else if (present_bit(p->maybe, i))
			span_set(l, i, SPAN_UNPROVEN);
	}
	l->complete = p->flags & PRESENT_COMPLETE;
	l->quarantined = p->flags & PRESENT_QUARANTINED;
}

/* The engine before this one may have let readers at what only memory had. */
static void wait_for_readers(struct layer *l)
{
	for (uint32_t i = 0; i < l->index.nspans; i++)
		if (l->spans[i].state == SPAN_UNPROVEN)
			span_distrust(l, i);
}

/*
 * What was written since the present file was, before an engine was killed, or could not be made
 * durable, or not be punched: it is right as often as not, and it takes room that can only be given
 * back by who knows of it. Asking where data is raises no event (KERNEL.md), and each takes a file
 * system but a look at its extents. #syscalls engine: lseek
 */
static void find_unclaimed(struct layer *l)
{
	off_t at = 0;

	while (l->nabsent > 0 && (at = lseek(l->fd_fill, at, SEEK_DATA)) >= 0) {
		uint32_t span = (uint32_t)((uint64_t)at / l->index.span_size);

		if (span >= l->index.nspans)
			return;
		if (l->spans[span].state == SPAN_ABSENT)
			span_set(l, span, SPAN_UNPROVEN);
		at = (off_t)(index_span_start(&l->index, span) + l->index.span_size);
	}
}

static int load_present(struct engine *en, struct layer *l, struct err *e)
{
	_cleanup_(present_free) struct present p = {.nspans = 0};
	int r;

	if (layer_spans_new(l) < 0)
		return err_errno(e, -ENOMEM, "the spans");
	r = present_open(en, &l->diff_id, &l->scope, l->index.nspans, &p, e);
	if (r < 0)
		return r;
	/*
	 * Only a complete layer ever loses its mark, and only eviction makes it less, which puts
	 * the mark back first. The mount has lived on, so the kernel has not died since.
	 */
	if (!l->marked)
		present_fill(&p);
	set_spans(l, &p);
	find_unclaimed(l);
	if (atomic_load(&en->slots->disk_failed))
		wait_for_readers(l);
	return 0;
}

static int fill_in(struct engine *en, struct layer *l, bool *ret_image_bad, struct err *e)
{
	int r;

	r = load_index(en, l, e);
	if (r == 0)
		r = load_image(l, ret_image_bad, e);
	if (r == 0)
		r = check_tar(l, e);
	if (r == 0)
		r = load_sources(en, l, e);
	if (r == 0)
		r = load_present(en, l, e);
	for (uint32_t i = 0; r == 0 && !l->complete && i < l->nsources; i++)
		layer_source_open(en, &l->sources[i]);
	return r;
}

int layer_build(struct engine *en, const struct keep_reply *msg, int fds[2], bool *ret_image_bad,
		struct layer **ret, struct err *e)
{
	_cleanup_(layer_freep) struct layer *l = calloc(1, sizeof(*l));
	char text[DIGEST_TEXT];
	int r;

	*ret_image_bad = false;
	if (!l)
		return err_errno(e, -ENOMEM, "a layer");
	l->diff_id = msg->layer.diff_id;
	l->scope = msg->layer.scope;
	l->tar_dev = msg->layer.tar_dev;
	l->tar_ino = msg->layer.tar_ino;
	l->fs_dev = msg->layer.fs_dev;
	l->marked = msg->layer.marked;
	/* The keeper sets both marks when it mounts; complete layers lose both. */
	l->exec_marked = l->marked ? KEEP_MARK_EXEC : 0;
	l->fd_fill = fds[0];
	l->fd_image = fds[1];
	r = fill_in(en, l, ret_image_bad, e);
	if (r < 0) {
		l->fd_fill = l->fd_image = -1;
		return err_wrap(e, r, "layer %s", digest_text(&msg->layer.diff_id, text));
	}
	fds[0] = fds[1] = -1;
	*ret = take_ptr(l);
	return 0;
}
