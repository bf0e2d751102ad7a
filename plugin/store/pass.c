/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pass.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/index/blobmap.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/fill/wire.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layout.h"
#include "plugin/store/pull.h"
#include "plugin/store/space.h"

#define TELL_MS 100 /* progress is for people's eyes */

void pass_settle(struct pass *p, bool listed)
{
	space_settle(p->in->en, p->unsettled, listed);
	p->unsettled = 0;
}

void pass_done(struct pass *p)
{
	pass_settle(p, false);
	p->whole = hasher_free(p->whole);
	buf_free(&p->digests);
	buf_free(&p->toc);
	buf_free(&p->map);
}

struct index pass_index(const struct pass *p)
{
	return (struct index){
		.diff_id = p->in->diff_id,
		.tar_size = p->tar_size,
		.span_size = p->span_size,
		.nspans = p->nspans,
		.nentries = p->nentries,
		.toc = p->toc.data,
		.toc_len = p->toc.len,
		.digests = (const struct digest *)p->digests.data,
	};
}

/* --- spans --- */

static int tell(struct pass *p, uint64_t received, struct err *e)
{
	uint64_t now = clock_ms();

	if (watch_cancelled(p->in->watch))
		return err_set(e, -EPIPE, "%s: the client went away", p->in->what);
	if (now - p->told_ms < TELL_MS)
		return 0;
	p->told_ms = now;
	if (watch_tell(p->in->watch, p->in->what, received, p->in->blob.size) < 0)
		return err_set(e, -EPIPE, "%s: the client went away", p->in->what);
	return 0;
}

static int check_span(struct pass *p, const struct fetch_note *n, struct err *e)
{
	uint64_t end;

	if (n->op != FETCH_SPAN || n->span != p->nspans || p->last || n->len == 0 ||
	    n->len > p->span_size)
		return err_set(e, -EPROTO, "%s: the fetcher broke the protocol", p->in->what);
	end = p->tar_size + n->len;
	if (end > LIMIT_TAR_SIZE)
		return err_set(e, -EFBIG, "%s: its tar is larger than %" PRIu64 " bytes",
			       p->in->what, LIMIT_TAR_SIZE);
	return 0;
}

/* Where there is no room for content a pull may go on: it can be had again when it is needed. */
static int keep_span(struct pass *p, const void *data, uint32_t len, struct err *e)
{
	int r = space_pwrite(p->in->en, p->fd_tar, data, len, p->tar_size);

	if ((r == -ENOSPC || r == -EDQUOT) && !p->in->must) {
		log_warn("%s: no room to keep its content: %s", p->in->what, err_words(r));
		r = ftruncate(p->fd_tar, 0) < 0 ? -errno : 0;
		pass_settle(p, false);
		p->fd_tar = -1;
	} else if (r == 0) {
		p->unsettled += len;
	}
	return r < 0 ? err_errno(e, r, "%s: writing its content", p->in->what) : 0;
}

static int take_span(void *ctx, const struct fetch_note *n, const void *data, struct err *e)
{
	struct pass *p = ctx;
	struct digest d;
	int r;

	r = check_span(p, n, e);
	if (r < 0)
		return r;
	if (hasher_update(p->whole, data, n->len) < 0 || digest_of(data, n->len, &d) < 0 ||
	    buf_put(&p->digests, &d, sizeof(d)) < 0)
		return err_errno(e, -ENOMEM, "%s", p->in->what);
	if (p->known &&
	    (n->span >= p->known->nspans || !digest_equal(&d, &p->known->digests[n->span])))
		return err_set(e, -EBADMSG, "%s: the blob yields another tar than its diff_id says",
			       p->in->what);
	if (p->fd_tar >= 0) {
		r = keep_span(p, data, n->len, e);
		if (r < 0)
			return r;
	}
	p->tar_size += n->len;
	p->nspans++;
	p->last = n->len < p->span_size;
	return tell(p, n->received, e);
}

/* --- results --- */

/* A copy that the fetcher cannot change any more. */
static int read_result(int fd, uint64_t limit, const char *what, struct buf *out, struct err *e)
{
	struct stat st;
	uint8_t *p;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "%s", what);
	if ((uint64_t)st.st_size > limit)
		return err_set(e, -EFBIG, "%s: its table of contents or map is too large", what);
	buf_init(out, limit);
	p = st.st_size ? buf_reserve(out, (size_t)st.st_size) : NULL;
	if (!p)
		return st.st_size ? err_errno(e, -ENOMEM, "%s", what) : 0;
	r = fd_pread_full(fd, p, (size_t)st.st_size, 0);
	if (r < 0)
		return err_errno(e, r, "%s", what);
	buf_commit(out, (size_t)st.st_size);
	return 0;
}

static int check_toc(const struct pass *p, struct err *e)
{
	_cleanup_(toc_reader_freep) struct toc_reader *reader = NULL;
	struct entry entry;
	int r;

	r = toc_reader_new(p->toc.data, p->toc.len, p->nentries, p->tar_size, &reader);
	if (r < 0)
		return err_errno(e, r, "%s: table of contents", p->in->what);
	while ((r = toc_next(reader, &entry, e)) > 0)
		;
	return r < 0 ? err_wrap(e, r, "%s", p->in->what) : 0;
}

static int check_map(const struct pass *p, struct err *e)
{
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	int r;

	r = blobmap_decode(p->map.data, p->map.len, p->in->what, &m, e);
	if (r < 0)
		return r;
	if (!digest_equal(blobmap_digest(m), &p->in->blob.digest) ||
	    blobmap_blob_size(m) != p->in->blob.size || blobmap_nspans(m) != p->nspans ||
	    blobmap_span_size(m) != p->span_size)
		return err_set(e, -EPROTO, "%s: the fetcher's map is of something else",
			       p->in->what);
	return 0;
}

static int check_whole(struct pass *p, struct err *e)
{
	char want[DIGEST_TEXT], got[DIGEST_TEXT];
	struct digest d;

	if (hasher_final(p->whole, &d) < 0)
		return err_errno(e, -ENOMEM, "%s", p->in->what);
	if (digest_equal(&d, &p->in->diff_id))
		return 0;
	return err_set(e, -EBADMSG, "%s: wrong digest: its tar has %s, the config says %s",
		       p->in->what, digest_text(&d, got), digest_text(&p->in->diff_id, want));
}

static int check_all(struct pass *p, const struct fetch_note *done, struct err *e)
{
	int r;

	if (done->tar_size != p->tar_size || done->nentries > LIMIT_ENTRIES)
		return err_set(e, -EPROTO, "%s: the fetcher broke the protocol", p->in->what);
	p->nentries = done->nentries;
	r = check_whole(p, e);
	if (r == 0)
		r = check_toc(p, e);
	return r < 0 ? r : check_map(p, e);
}

/* --- the job --- */

static int make_job(const struct pass *p, struct fetch_job **ret, struct err *e)
{
	struct fetch_job *job = calloc(1, sizeof(*job));
	const struct ingest *in = p->in;

	if (!job)
		return err_errno(e, -ENOMEM, "%s", in->what);
	job->op = FETCH_INDEX;
	job->source.local = in->from->local;
	job->source.at = in->from->at;
	job->source.blob = in->blob.digest;
	job->source.blob_size = in->blob.size;
	job->span_size = p->span_size;
	job->stall_timeout_ms = in->en->slots->settings.stall_timeout_ms;
	job->connect_timeout_ms = in->en->slots->settings.connect_timeout_ms;
	snprintf(job->what, sizeof(job->what), "%s", in->what);
	*ret = job;
	return 0;
}

static int run_job(struct pass *p, const int *fds, int nfds, struct fetch_note *ret_done,
		   struct err *e)
{
	_cleanup_(oneshot_freep) struct oneshot *proc = NULL;
	struct fetch_job *job = NULL;
	int r;

	r = make_job(p, &job, e);
	if (r == 0)
		r = oneshot_new(p->in->en, &proc, e);
	if (r == 0)
		r = oneshot_run(proc, job, fds, nfds, take_span, p, ret_done, e);
	if (job)
		explicit_bzero(job, sizeof(*job));
	free(job);
	return r;
}

/* #syscalls engine: memfd_create */
int pass_run(struct pass *p, struct err *e)
{
	_cleanup_fd_ int blob = -1;
	_cleanup_fd_ int toc = memfd_create("toc", MFD_CLOEXEC);
	_cleanup_fd_ int map = memfd_create("map", MFD_CLOEXEC);
	const struct ingest *in = p->in;
	struct fetch_note done = {.op = 0};
	int fds[3], nfds = 0, r;

	p->span_size = p->known ? p->known->span_size : index_span_size(in->blob.size);
	buf_init(&p->digests, LIMIT_TAR_SIZE / LIMIT_SPAN_MIN * sizeof(struct digest));
	p->whole = hasher_new();
	if (toc < 0 || map < 0 || !p->whole)
		return err_errno(e, -ENOMEM, "%s", in->what);
	if (in->from->local) {
		r = layout_blob_open(in->en, in->from->dir, &in->blob.digest, in->blob.size, &blob,
				     e);
		if (r < 0)
			return r;
		fds[nfds++] = blob;
	}
	fds[nfds++] = toc;
	fds[nfds++] = map;
	r = run_job(p, fds, nfds, &done, e);
	if (r == 0)
		r = read_result(toc, LIMIT_TOC, in->what, &p->toc, e);
	if (r == 0)
		r = read_result(map, LIMIT_MAP_FILE, in->what, &p->map, e);
	return r < 0 ? r : check_all(p, &done, e);
}
