/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/blobmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "oci/base/buf.h"
#include "oci/base/limits.h"
#include "oci/index/blobmap_disk.h"

/*
 * Windows are tar content: level 6 makes them 40 % of their size, and takes 0.6 ms for each. Of
 * the pass over a layer that is a few percent; higher levels gain nothing.
 */
#define WINDOW_LEVEL 6

struct blobmap_builder {
	enum codec_kind codec;
	uint32_t span_size;
	uint32_t nspans, npoints;
	struct blobmap_point last;         /* the latest point; only with npoints > 0 */
	struct buf points, spans, windows; /* encoded */
};

int blobmap_builder_new(enum codec_kind codec, uint32_t span_size, struct blobmap_builder **ret)
{
	struct blobmap_builder *b;

	if ((unsigned)codec >= CODEC_COUNT || span_size < LIMIT_SPAN_MIN ||
	    span_size > LIMIT_SPAN_MAX || (span_size & (span_size - 1)))
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->codec = codec;
	b->span_size = span_size;
	buf_init(&b->points, (size_t)BLOBMAP_SPANS_MAX * BLOBMAP_POINT_SIZE);
	buf_init(&b->spans, (size_t)BLOBMAP_SPANS_MAX * BLOBMAP_SPAN_SIZE);
	buf_init(&b->windows, LIMIT_WINDOWS);
	*ret = b;
	return 0;
}

struct blobmap_builder *blobmap_builder_free(struct blobmap_builder *b)
{
	if (!b)
		return NULL;
	buf_free(&b->points);
	buf_free(&b->spans);
	buf_free(&b->windows);
	free(b);
	return NULL;
}

static int put_window(struct blobmap_builder *b, const struct checkpoint *cp, uint32_t *ret_len)
{
	uLongf len = compressBound(cp->window_len);
	uint8_t *dst;

	*ret_len = 0;
	if (cp->window_len == 0)
		return 0;
	dst = buf_reserve(&b->windows, len);
	if (!dst)
		return b->windows.failed;
	if (compress2(dst, &len, cp->window, cp->window_len, WINDOW_LEVEL) != Z_OK)
		return -ENOMEM;
	buf_commit(&b->windows, len);
	*ret_len = (uint32_t)len;
	return 0;
}

static int put_point(struct blobmap_builder *b, const struct checkpoint *cp)
{
	struct blobmap_point p = {
		.in = cp->in,
		.out = cp->out,
		.window = b->windows.len,
		.window_len = (uint16_t)cp->window_len,
		.bits = cp->bits,
		.member = cp->member,
	};
	int r = put_window(b, cp, &p.stored_len);

	if (r < 0)
		return r;
	buf_put_le64(&b->points, p.in);
	buf_put_le64(&b->points, p.out);
	buf_put_le64(&b->points, p.window);
	buf_put_le32(&b->points, p.stored_len);
	buf_put_le16(&b->points, p.window_len);
	buf_put_u8(&b->points, p.bits);
	buf_put_u8(&b->points, p.member);
	if (b->points.failed)
		return b->points.failed;
	b->last = p;
	b->npoints++;
	return 0;
}

int blobmap_builder_add(struct blobmap_builder *b, const struct checkpoint *cp, uint64_t in_end)
{
	bool same = b->npoints > 0 && b->last.in == cp->in && b->last.out == cp->out &&
		    b->last.bits == cp->bits && b->last.member == cp->member;
	int r;

	if (b->nspans >= BLOBMAP_SPANS_MAX)
		return -EFBIG;
	if (cp->window_len > CODEC_WINDOW || cp->out > (uint64_t)b->nspans * b->span_size)
		return -EINVAL;
	if (!same) {
		r = put_point(b, cp);
		if (r < 0)
			return r;
	}
	buf_put_le64(&b->spans, in_end);
	buf_put_le32(&b->spans, b->npoints - 1);
	if (b->spans.failed)
		return b->spans.failed;
	b->nspans++;
	return 0;
}

int blobmap_builder_encode(struct blobmap_builder *b, const struct digest *blob, uint64_t blob_size,
			   struct buf *out)
{
	struct digest sum;
	size_t start = out->len;
	int r;

	buf_put(out, BLOBMAP_MAGIC, BLOBMAP_MAGIC_SIZE);
	buf_put_le32(out, BLOBMAP_VERSION);
	buf_put_le32(out, BLOBMAP_HEADER_SIZE);
	buf_put(out, blob->sum, DIGEST_SIZE);
	buf_put_le64(out, blob_size);
	buf_put_le32(out, b->codec);
	buf_put_le32(out, b->span_size);
	buf_put_le32(out, b->nspans);
	buf_put_le32(out, b->npoints);
	buf_put_le64(out, b->windows.len);
	buf_put(out, b->points.data, b->points.len);
	buf_put(out, b->spans.data, b->spans.len);
	buf_put(out, b->windows.data, b->windows.len);
	if (out->failed)
		return out->failed;
	r = digest_of(out->data + start, out->len - start, &sum);
	return r < 0 ? r : buf_put(out, sum.sum, DIGEST_SIZE);
}
