/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/blobmap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"

/*
 * On disk, little-endian, all records of one size, so that a span is found without parsing:
 *
 *   header   magic "TARNMAP\1", version u32, header size u32, blob digest[32], blob size u64,
 *            codec u32, span_size u32, nspans u32, npoints u32, length of the windows u64
 *   points   npoints * 32: in u64, out u64, offset of the window u64, its stored length u32,
 *            its plain length u16, bits u8, member u8
 *   spans    nspans * 12: in_end u64, point u32
 *   windows  zlib streams, in the order of the points, nothing between them
 *   sum      sha256 of everything before it
 */
#define VERSION     1
#define HEADER_SIZE 80
#define POINT_SIZE  32
#define SPAN_SIZE   12
#define MAGIC_SIZE  8

static const uint8_t magic[MAGIC_SIZE] = {'T', 'A', 'R', 'N', 'M', 'A', 'P', 1};

/*
 * Windows are tar content: level 6 makes them 40 % of their size, and takes 0.6 ms for each. Of
 * the pass over a layer that is a few percent; higher levels gain nothing.
 */
#define WINDOW_LEVEL 6

/* No map can have more spans than the largest tar cut into the smallest spans. */
#define SPANS_MAX ((uint32_t)(LIMIT_TAR_SIZE / LIMIT_SPAN_MIN))

struct point {
	uint64_t in, out;
	uint64_t window;     /* offset among the windows */
	uint32_t stored_len; /* deflated */
	uint16_t window_len; /* plain */
	uint8_t bits;
	uint8_t member;
};

/* Where the input of a point starts. */
static uint64_t point_start(const struct point *p)
{
	return p->in - (p->bits ? 1 : 0);
}

/* --- writing --- */

struct blobmap_builder {
	enum codec_kind codec;
	uint32_t span_size;
	uint32_t nspans, npoints;
	struct point last;                 /* the latest point; only with npoints > 0 */
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
	buf_init(&b->points, (size_t)SPANS_MAX * POINT_SIZE);
	buf_init(&b->spans, (size_t)SPANS_MAX * SPAN_SIZE);
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
	struct point p = {
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

	if (b->nspans >= SPANS_MAX)
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

	buf_put(out, magic, MAGIC_SIZE);
	buf_put_le32(out, VERSION);
	buf_put_le32(out, HEADER_SIZE);
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

/* --- reading --- */

struct blobmap {
	enum codec_kind codec;
	uint32_t span_size, nspans, npoints;
	struct digest blob;
	uint64_t blob_size;
	const uint8_t *points;  /* borrowed, npoints * POINT_SIZE */
	const uint8_t *spans;   /* borrowed, nspans * SPAN_SIZE */
	const uint8_t *windows; /* borrowed */
	uint64_t windows_len;
};

static struct point get_point(const struct blobmap *m, uint32_t i)
{
	struct bytes in = bytes_of(m->points + (size_t)i * POINT_SIZE, POINT_SIZE);
	struct point p;

	p.in = bytes_le64(&in);
	p.out = bytes_le64(&in);
	p.window = bytes_le64(&in);
	p.stored_len = bytes_le32(&in);
	p.window_len = bytes_le16(&in);
	p.bits = bytes_u8(&in);
	p.member = bytes_u8(&in);
	return p;
}

struct blobmap_span blobmap_span(const struct blobmap *m, uint32_t span)
{
	struct bytes in = bytes_of(m->spans + (size_t)span * SPAN_SIZE, SPAN_SIZE);
	struct blobmap_span s;

	s.in_end = bytes_le64(&in);
	s.point = bytes_le32(&in);
	return s;
}

/* What a point of each codec may look like. */
static bool point_fits(const struct blobmap *m, const struct point *p)
{
	if (p->in > m->blob_size || p->out > LIMIT_TAR_SIZE || p->bits > 7 || p->member > 1)
		return false;
	if (p->window_len > CODEC_WINDOW || p->window_len > p->out)
		return false;
	if (!p->window_len != !p->stored_len || p->stored_len > compressBound(CODEC_WINDOW))
		return false;
	if (p->bits && p->in == 0)
		return false;
	if (p->member && (p->bits || p->window_len))
		return false;
	if (m->codec == CODEC_RAW)
		return p->in == p->out && !p->bits && !p->member && !p->window_len;
	return m->codec == CODEC_GZIP || p->member;
}

static const char *check_points(const struct blobmap *m)
{
	struct point last = {0};
	uint64_t window = 0;

	for (uint32_t i = 0; i < m->npoints; i++) {
		struct point p = get_point(m, i);

		if (!point_fits(m, &p))
			return "a checkpoint makes no sense";
		if (i > 0 && (p.in < last.in || p.out < last.out))
			return "the checkpoints are not in order";
		if (p.window != window)
			return "the windows are not in order";
		window += p.stored_len;
		last = p;
	}
	return window == m->windows_len ? NULL : "the windows do not add up";
}

/* Each point serves at least one span, in order; a span starts at its point or after it. */
static const char *check_spans(const struct blobmap *m)
{
	uint64_t last_end = 0;
	uint32_t last = 0;

	for (uint32_t i = 0; i < m->nspans; i++) {
		struct blobmap_span s = blobmap_span(m, i);
		struct point p;

		if (s.point >= m->npoints || s.point < last || s.point > last + (i > 0))
			return "a span has no checkpoint";
		p = get_point(m, s.point);
		if (p.out > (uint64_t)i * m->span_size)
			return "a span starts before its checkpoint";
		if (s.in_end > m->blob_size || s.in_end < last_end || s.in_end < p.in)
			return "a span's input makes no sense";
		last_end = s.in_end;
		last = s.point;
	}
	if (m->npoints != (m->nspans ? last + 1 : 0))
		return "a checkpoint has no span";
	return NULL;
}

static const char *take_header(struct blobmap *m, struct bytes *in)
{
	uint32_t codec;

	if (bytes_le32(in) != VERSION || bytes_le32(in) != HEADER_SIZE)
		return "its version is not ours";
	bytes_copy(in, m->blob.sum, DIGEST_SIZE);
	m->blob_size = bytes_le64(in);
	codec = bytes_le32(in);
	m->span_size = bytes_le32(in);
	m->nspans = bytes_le32(in);
	m->npoints = bytes_le32(in);
	m->windows_len = bytes_le64(in);
	if (codec >= CODEC_COUNT)
		return "its codec is unknown";
	m->codec = codec;
	if (m->span_size < LIMIT_SPAN_MIN || m->span_size > LIMIT_SPAN_MAX ||
	    (m->span_size & (m->span_size - 1)))
		return "the span size is not a power of two from 64 KiB to 4 MiB";
	if (m->nspans > LIMIT_TAR_SIZE / m->span_size || m->npoints > m->nspans)
		return "it has too many spans or checkpoints";
	return NULL;
}

static const char *take_body(struct blobmap *m, struct bytes *in)
{
	m->points = bytes_take(in, (size_t)m->npoints * POINT_SIZE);
	m->spans = bytes_take(in, (size_t)m->nspans * SPAN_SIZE);
	if (!bytes_ok(in) || in->left != m->windows_len)
		return "its length does not fit its header";
	m->windows = in->p;
	return NULL;
}

/* NULL, or what is wrong. */
static const char *decode(struct blobmap *m, const uint8_t *data, size_t len)
{
	struct bytes in;
	struct digest sum;
	const char *why;

	if (len < HEADER_SIZE + DIGEST_SIZE)
		return "it is cut short";
	in = bytes_of(data, len - DIGEST_SIZE);
	if (memcmp(bytes_take(&in, MAGIC_SIZE), magic, MAGIC_SIZE) != 0)
		return "it is none";
	if (digest_of(data, len - DIGEST_SIZE, &sum) < 0 ||
	    memcmp(sum.sum, data + len - DIGEST_SIZE, DIGEST_SIZE) != 0)
		return "its checksum is wrong";
	why = take_header(m, &in);
	if (!why)
		why = take_body(m, &in);
	if (!why)
		why = check_points(m);
	return why ? why : check_spans(m);
}

int blobmap_decode(const void *data, size_t len, const char *what, struct blobmap **ret,
		   struct err *e)
{
	_cleanup_(blobmap_freep) struct blobmap *m = calloc(1, sizeof(*m));
	const char *why;

	if (!m)
		return err_set(e, -ENOMEM, "%s: out of memory", what);
	why = decode(m, data, len);
	if (why)
		return err_set(e, -EBADMSG, "%s: the blob map is damaged: %s", what, why);
	*ret = take_ptr(m);
	return 0;
}

struct blobmap *blobmap_free(struct blobmap *m)
{
	free(m);
	return NULL;
}

enum codec_kind blobmap_codec(const struct blobmap *m)
{
	return m->codec;
}

const struct digest *blobmap_digest(const struct blobmap *m)
{
	return &m->blob;
}

uint64_t blobmap_blob_size(const struct blobmap *m)
{
	return m->blob_size;
}

uint32_t blobmap_nspans(const struct blobmap *m)
{
	return m->nspans;
}

uint32_t blobmap_span_size(const struct blobmap *m)
{
	return m->span_size;
}

uint64_t blobmap_point_in(const struct blobmap *m, uint32_t point)
{
	struct point p = get_point(m, point);

	return point_start(&p);
}

uint64_t blobmap_point_out(const struct blobmap *m, uint32_t point)
{
	return get_point(m, point).out;
}

int blobmap_checkpoint(const struct blobmap *m, uint32_t point, struct checkpoint *ret)
{
	struct point p;
	uLongf len = CODEC_WINDOW;

	if (point >= m->npoints)
		return -EINVAL;
	p = get_point(m, point);
	if (p.window_len == 0)
		len = 0;
	else if (uncompress(ret->window, &len, m->windows + p.window, p.stored_len) != Z_OK ||
		 len != p.window_len)
		return -EBADMSG;
	ret->in = p.in;
	ret->out = p.out;
	ret->bits = p.bits;
	ret->member = p.member;
	ret->window_len = p.window_len;
	return 0;
}
