/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/codec/codec.h"
#include "oci/index/build.h"
#include "oci/registry.h"
#include "oci/stream.h"
#include "plugin/fill/fetch_impl.h"

/* A stream that counts what is read from the source. */
struct counted {
	struct stream s;
	struct stream *in; /* owned */
	uint64_t *count;   /* borrowed */
};

static ssize_t counted_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct counted *c = (struct counted *)s;
	ssize_t r = stream_read(c->in, buf, n, e);

	if (r > 0)
		*c->count += (uint64_t)r;
	return r;
}

static void counted_free(struct stream *s)
{
	struct counted *c = (struct counted *)s;

	stream_free(c->in);
	free(c);
}

/*
 * The blob's bytes [off, off + len), from the descriptor that came or from the registry. What
 * curl and the resolver need is listed here: sockets of TCP and UDP, and pairs for waking threads.
 * A pair of datagram sockets could be connected elsewhere, so it is not permitted. Without netlink
 * and without nscd, whose socket is AF_UNIX, the resolver only knows less.
 *
 * #syscalls fetcher: socket@0=AF_INET+1/0xf=SOCK_STREAM socket@0=AF_INET+1/0xf=SOCK_DGRAM
 * #syscalls fetcher: socket@0=AF_INET6+1/0xf=SOCK_STREAM socket@0=AF_INET6+1/0xf=SOCK_DGRAM
 * #syscalls fetcher: socket@0=AF_UNIX!EAFNOSUPPORT socket@0=AF_NETLINK!EAFNOSUPPORT
 * #syscalls fetcher: socketpair@0=AF_UNIX+1/0xf=SOCK_STREAM
 * #syscalls fetcher: connect getsockopt setsockopt getsockname getpeername poll ppoll
 * #syscalls fetcher: sendto sendmsg recvfrom recvmsg sendmmsg pipe2 eventfd2
 * #syscalls fetcher: fcntl@1=F_GETFL fcntl@1=F_SETFL fcntl@1=F_GETFD fcntl@1=F_SETFD
 * #syscalls fetcher: ioctl@1=FIONREAD ioctl@1=FIONBIO ioctl@1=TCGETS
 * #syscalls fetcher: openat@2/(O_ACCMODE|O_CREAT|O_TRUNC)=O_RDONLY newfstatat fstat lseek
 * #syscalls fetcher: read pread64 uname
 */
static int open_blob(struct fetcher_self *f, uint64_t off, uint64_t len, struct stream **ret,
		     struct err *e)
{
	const struct fetch_source *src = &f->job.source;
	_cleanup_(stream_freep) struct stream *in = NULL;
	struct counted *c;
	struct registry *reg;
	int r;

	if (src->local) {
		if (f->nfds < 1)
			return err_set(e, -EINVAL, "%s: its blob did not come along", f->job.what);
		r = stream_of_fd(f->fds[0], off, len, &in);
	} else {
		r = fetch_registry(f, &reg, e);
		if (r == 0 && f->job.anew)
			registry_forget(reg, &src->at, &src->blob);
		if (r == 0)
			r = registry_blob_range(reg, &src->at, &src->blob, src->blob_size, off, len,
						&in, e);
	}
	if (r < 0)
		return r;
	c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = (struct counted){.s = {.read = counted_read, .free = counted_free},
			      .in = take_ptr(in),
			      .count = &f->received};
	*ret = &c->s;
	return 0;
}

/* --- SPANS --- */

static int read_full(struct decoder *d, const char *what, void *buf, size_t n, struct err *e)
{
	uint8_t *p = buf;

	while (n > 0) {
		ssize_t r = decoder_read(d, p, n, e);

		if (r < 0)
			return err_wrap(e, (int)r, "%s", what);
		if (r == 0)
			return err_set(e, -EBADMSG, "%s: the blob holds less than it should", what);
		p += r;
		n -= (size_t)r;
	}
	return 0;
}

static bool job_makes_sense(const struct fetch_job *j)
{
	uint64_t start = (uint64_t)j->first_span * j->span_size;
	uint64_t last = ((uint64_t)j->first_span + j->nspans - 1) * j->span_size;

	return j->nspans > 0 && j->span_size > 0 && j->span_size <= LIMIT_SPAN_MAX &&
	       last < j->tar_size && j->from.out <= start && j->in_start <= j->in_end &&
	       j->in_end <= j->source.blob_size && j->codec < CODEC_COUNT;
}

/* Between the checkpoint and the first span is nothing anybody asked for. */
static int skip(struct fetcher_self *f, struct decoder *d, uint64_t n, struct err *e)
{
	int slot = fetch_slot_any(f);

	if (slot < 0)
		return slot;
	while (n > 0) {
		size_t some = n < LIMIT_SPAN_MAX ? (size_t)n : LIMIT_SPAN_MAX;
		int r = read_full(d, f->job.what, fetch_slot(f, (uint32_t)slot), some, e);

		if (r < 0)
			return r;
		n -= some;
	}
	return 0;
}

static int send_span(struct fetcher_self *f, struct decoder *d, uint32_t span, struct err *e)
{
	uint64_t left = f->job.tar_size - (uint64_t)span * f->job.span_size;
	size_t len = left < f->job.span_size ? (size_t)left : f->job.span_size;
	struct fetch_note note = {.span = span, .len = (uint32_t)len};
	int slot = fetch_slot_any(f);
	int r;

	if (slot < 0)
		return slot;
	r = read_full(d, f->job.what, fetch_slot(f, (uint32_t)slot), len, e);
	if (r < 0)
		return r;
	note.slot = (uint32_t)slot;
	return fetch_say(f, FETCH_SPAN, &note);
}

int fetch_spans(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	const struct fetch_job *j = &f->job;
	const struct decoder_options opt = {.track = false, .verify = false};
	_cleanup_(stream_freep) struct stream *in = NULL;
	_cleanup_(decoder_freep) struct decoder *d = NULL;
	int r;

	if (!job_makes_sense(j))
		return err_set(e, -EINVAL, "%s: the job makes no sense", j->what);
	r = open_blob(f, j->in_start, j->in_end - j->in_start, &in, e);
	if (r == 0)
		r = decoder_open(j->codec, &j->from, in, &opt, &d, e);
	if (r == 0)
		r = skip(f, d, (uint64_t)j->first_span * j->span_size - j->from.out, e);
	for (uint32_t i = 0; r == 0 && i < j->nspans; i++)
		r = send_span(f, d, j->first_span + i, e);
	return r;
}

/* --- INDEX --- */

static int index_span_out(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct fetcher_self *f = ctx;
	struct fetch_note note = {.span = span, .len = (uint32_t)len};
	int slot = fetch_slot_any(f);
	int r;

	if (slot < 0 || len > LIMIT_SPAN_MAX)
		return err_set(e, slot < 0 ? slot : -EINVAL, "the engine is gone");
	memcpy(fetch_slot(f, (uint32_t)slot), data, len);
	note.slot = (uint32_t)slot;
	r = fetch_say(f, FETCH_SPAN, &note);
	return r < 0 ? err_set(e, r, "the engine is gone") : 0;
}

/* #syscalls fetcher: write */
static int write_result(int fd, const struct buf *b, const char *what, struct err *e)
{
	int r = b->failed ? b->failed : fd_write_full(fd, b->data, b->len);

	return r < 0 ? err_errno(e, r, "%s: cannot hand over its index", what) : 0;
}

int fetch_index(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	const struct fetch_job *j = &f->job;
	struct build_input in = {.what = j->what,
				 .blob_size = j->source.blob_size,
				 .blob_digest = j->source.blob,
				 .span_size = j->span_size,
				 .span = index_span_out,
				 .ctx = f};
	_cleanup_(stream_freep) struct stream *blob = NULL;
	_cleanup_buf_ struct buf toc, map;
	struct build_result res;
	int r;

	buf_init(&toc, LIMIT_TOC);
	buf_init(&map, LIMIT_MAP_FILE);
	if (f->nfds != (j->source.local ? 3 : 2))
		return err_set(e, -EINVAL, "%s: no place for its index came along", j->what);
	r = open_blob(f, 0, j->source.blob_size, &blob, e);
	if (r < 0)
		return r;
	in.blob = blob;
	r = build_index(&in, &toc, &map, &res, e);
	if (r == 0)
		r = write_result(f->fds[f->nfds - 2], &toc, j->what, e);
	if (r == 0)
		r = write_result(f->fds[f->nfds - 1], &map, j->what, e);
	if (r < 0)
		return r;
	done->tar_size = res.tar_size;
	done->nentries = res.nentries;
	return 0;
}

/* A byte, and not HEAD: storage signs URLs for one method, and this is the way a span takes. */
int fetch_check(struct fetcher_self *f, struct err *e)
{
	_cleanup_(stream_freep) struct stream *in = NULL;

	if (f->job.source.local || f->job.source.blob_size == 0)
		return err_set(e, -EINVAL, "%s: the job makes no sense", f->job.what);
	return open_blob(f, 0, 1, &in, e);
}
