/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/build.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/blobmap.h"
#include "oci/index/tarscan.h"
#include "oci/stream.h"

/*
 * The bytes flow through two streams that watch them:
 *
 *   blob ──▶ struct counted ──▶ decoder ──▶ struct spans ──▶ tarscan
 *            sha256, length                 one span at a time: span(), blob map
 *
 * tarscan (libarchive) pulls; it reads on to the end of the tar, and the decoder gives its end
 * only after the end of the blob.
 */

#define HEAD_SIZE 6 /* what codec_sniff() wants to see */

struct counted {
	struct stream stream;
	struct stream *blob; /* borrowed */
	const char *what;    /* borrowed */
	struct hasher *sum;  /* owned */
	bool failed;         /* an error that comes from here is worded already */
	uint64_t got, size;  /* bytes read, bytes there must be */
	uint8_t head[HEAD_SIZE];
	size_t head_len, head_pos; /* read ahead to see what the blob is */
};

struct spans {
	struct stream stream;
	const struct build_input *in; /* borrowed */
	struct counted *blob;         /* borrowed */
	struct decoder *d;            /* owned */
	struct blobmap_builder *map;  /* owned */
	struct checkpoint cp;
	uint8_t *data; /* owned; in->span_size bytes */
	size_t len, pos;
	uint64_t tar_size;
	uint32_t nspans;
	bool at_end;
	bool stopped; /* by span(), which has said why */
};

static void nothing_to_free(struct stream *s) {}

/* --- the blob's side --- */

static ssize_t read_blob(struct counted *c, void *buf, size_t n, struct err *e)
{
	ssize_t r;
	int sum;

	c->failed = true; /* until it is known better */
	r = stream_read(c->blob, buf, n, e);
	if (r < 0)
		return err_wrap(e, (int)r, "%s", c->what);
	if (r == 0 && c->got < c->size)
		return err_set(e, -ENODATA,
			       "%s: the blob ends after %" PRIu64 " of %" PRIu64 " bytes", c->what,
			       c->got, c->size);
	c->got += (uint64_t)r;
	if (c->got > c->size)
		return err_set(e, -EBADMSG, "%s: the blob is longer than its %" PRIu64 " bytes",
			       c->what, c->size);
	sum = hasher_update(c->sum, buf, (size_t)r);
	if (sum < 0)
		return err_errno(e, sum, "%s: cannot compute a sha256", c->what);
	c->failed = false;
	return r;
}

static ssize_t counted_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct counted *c = (struct counted *)s;
	size_t left = c->head_len - c->head_pos;

	if (left == 0)
		return read_blob(c, buf, n, e);
	n = n < left ? n : left;
	memcpy(buf, c->head + c->head_pos, n);
	c->head_pos += n;
	return (ssize_t)n;
}

static int counted_init(struct counted *c, const struct build_input *in, struct err *e)
{
	*c = (struct counted){
		.stream = {.read = counted_read, .free = nothing_to_free},
		.blob = in->blob,
		.what = in->what,
		.size = in->blob_size,
		.sum = hasher_new(),
	};
	if (!c->sum)
		return err_set(e, -ENOMEM, "%s: out of memory", in->what);
	while (c->head_len < HEAD_SIZE) {
		ssize_t r = read_blob(c, c->head + c->head_len, HEAD_SIZE - c->head_len, e);

		if (r < 0)
			return (int)r;
		if (r == 0)
			break;
		c->head_len += (size_t)r;
	}
	return 0;
}

static int wrong_digest(const struct counted *c, const struct digest *got,
			const struct digest *want, struct err *e)
{
	char got_text[DIGEST_TEXT], want_text[DIGEST_TEXT];

	return err_set(e, -EBADMSG, "%s: the blob is %s and should be %s", c->what,
		       digest_text(got, got_text), digest_text(want, want_text));
}

/*
 * The pass has failed over what is in the blob. If the blob is not the promised one, that is the
 * news: another copy of it may well be good.
 */
static int blame(struct counted *c, const struct digest *want, int code, struct err *e)
{
	uint8_t scrap[4096];
	struct err other = ERR_INIT;
	struct digest got;
	ssize_t r;

	do
		r = read_blob(c, scrap, sizeof(scrap), &other);
	while (r > 0);
	if (r < 0 || hasher_final(c->sum, &got) < 0 || digest_equal(&got, want))
		return code;
	return wrong_digest(c, &got, want, e);
}

/* The decoder has come to the blob's end: was it the blob that was promised? */
static int counted_check(struct counted *c, const struct digest *want, struct err *e)
{
	struct digest got;
	int r;

	if (c->got != c->size)
		return err_set(e, -EBADMSG, "%s: %" PRIu64 " of %" PRIu64 " bytes of the blob used",
			       c->what, c->got, c->size);
	r = hasher_final(c->sum, &got);
	if (r < 0)
		return err_errno(e, r, "%s: cannot compute a sha256", c->what);
	return digest_equal(&got, want) ? 0 : wrong_digest(c, &got, want, e);
}

/* --- the tar's side --- */

/*
 * Decodes the next span into s->data. A decoder that runs out of input inside a member says
 * -ENODATA; here all of the blob is there, so the blob itself is wrong.
 */
static int decode_span(struct spans *s, struct err *e)
{
	size_t len = 0;
	ssize_t r;

	while (len < s->in->span_size) {
		r = decoder_read(s->d, s->data + len, s->in->span_size - len, e);
		if (r < 0 && s->blob->failed)
			return (int)r;
		if (r < 0) {
			if (r == -ENODATA && e)
				e->code = -EBADMSG;
			return err_wrap(e, r == -ENODATA ? -EBADMSG : (int)r, "%s", s->in->what);
		}
		if (r == 0)
			break;
		len += (size_t)r;
	}
	s->len = len;
	s->pos = 0;
	return 0;
}

/* Makes the next span the current one and tells everybody who wants to know. */
static int next_span(struct spans *s, struct err *e)
{
	int r;

	decoder_checkpoint(s->d, &s->cp);
	r = decode_span(s, e);
	if (r < 0)
		return r;
	s->at_end = s->len < s->in->span_size;
	if (s->len == 0)
		return 0;
	s->tar_size += s->len;
	if (s->tar_size > LIMIT_TAR_SIZE)
		return err_set(e, -EBADMSG, "%s: the tar is larger than 2 TiB", s->in->what);
	r = blobmap_builder_add(s->map, &s->cp, decoder_consumed(s->d));
	if (r < 0)
		return err_errno(e, r, "%s: cannot map the blob", s->in->what);
	r = s->in->span(s->in->ctx, s->nspans++, s->data, s->len, e);
	s->stopped = r != 0;
	return r;
}

static ssize_t spans_read(struct stream *stream, void *buf, size_t n, struct err *e)
{
	struct spans *s = (struct spans *)stream;
	int r;

	if (s->pos == s->len && !s->at_end) {
		r = next_span(s, e);
		if (r != 0)
			return r;
	}
	n = n < s->len - s->pos ? n : s->len - s->pos;
	memcpy(buf, s->data + s->pos, n);
	s->pos += n;
	return (ssize_t)n;
}

static struct spans *spans_free(struct spans *s)
{
	if (!s)
		return NULL;
	decoder_free(s->d);
	blobmap_builder_free(s->map);
	free(s->data);
	free(s);
	return NULL;
}

DEFINE_CLEANUP(struct spans, spans_free)

static int spans_new(const struct build_input *in, struct counted *blob, struct spans **ret,
		     struct err *e)
{
	static const struct decoder_options opt = {.track = true, .verify = true};
	enum codec_kind codec = codec_sniff(blob->head, blob->head_len);
	_cleanup_(spans_freep) struct spans *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "%s: out of memory", in->what);
	s->stream = (struct stream){.read = spans_read, .free = nothing_to_free};
	s->in = in;
	s->blob = blob;
	r = blobmap_builder_new(codec, in->span_size, &s->map);
	if (r < 0)
		return err_errno(e, r, "%s: spans of %" PRIu32 " bytes", in->what, in->span_size);
	s->data = malloc(in->span_size);
	if (!s->data)
		return err_set(e, -ENOMEM, "%s: out of memory", in->what);
	r = decoder_open(codec, NULL, &blob->stream, &opt, &s->d, e);
	if (r < 0)
		return err_wrap(e, r, "%s", in->what);
	*ret = take_ptr(s);
	return 0;
}

static int run(const struct build_input *in, struct counted *blob, struct buf *toc, struct buf *map,
	       struct build_result *ret, struct err *e)
{
	_cleanup_(spans_freep) struct spans *s = NULL;
	struct build_result result = {0};
	int r;

	r = spans_new(in, blob, &s, e);
	if (r < 0)
		return r;
	r = tarscan(&s->stream, in->what, toc, &result.nentries, e);
	if (r == -EBADMSG && !blob->failed && !s->stopped)
		return blame(blob, &in->blob_digest, r, e);
	if (r < 0)
		return r;
	r = counted_check(blob, &in->blob_digest, e);
	if (r < 0)
		return r;
	r = blobmap_builder_encode(s->map, &in->blob_digest, in->blob_size, map);
	if (r < 0)
		return err_errno(e, r, "%s: cannot write the blob map", in->what);
	result.tar_size = s->tar_size;
	result.nspans = s->nspans;
	*ret = result;
	return 0;
}

int build_index(const struct build_input *in, struct buf *toc, struct buf *map,
		struct build_result *ret, struct err *e)
{
	struct counted blob;
	int r = counted_init(&blob, in, e);

	if (r == 0)
		r = run(in, &blob, toc, map, ret, e);
	hasher_free(blob.sum);
	return r;
}
