/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/blobmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/blobmap_disk.h"

struct blobmap {
	enum codec_kind codec;
	uint32_t span_size, nspans, npoints;
	struct digest blob;
	uint64_t blob_size;
	const uint8_t *points;  /* borrowed, npoints * BLOBMAP_POINT_SIZE */
	const uint8_t *spans;   /* borrowed, nspans * BLOBMAP_SPAN_SIZE */
	const uint8_t *windows; /* borrowed */
	uint64_t windows_len;
};

/* Where the input of a point starts. */
static uint64_t point_start(const struct blobmap_point *p)
{
	return p->in - (p->bits ? 1 : 0);
}

static struct blobmap_point get_point(const struct blobmap *m, uint32_t i)
{
	struct bytes in = bytes_of(m->points + (size_t)i * BLOBMAP_POINT_SIZE, BLOBMAP_POINT_SIZE);
	struct blobmap_point p;

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
	struct bytes in = bytes_of(m->spans + (size_t)span * BLOBMAP_SPAN_SIZE, BLOBMAP_SPAN_SIZE);
	struct blobmap_span s;

	s.in_end = bytes_le64(&in);
	s.point = bytes_le32(&in);
	return s;
}

static bool window_fits(const struct blobmap_point *p)
{
	if (p->window_len > CODEC_WINDOW || p->window_len > p->out)
		return false;
	return !p->window_len == !p->stored_len && p->stored_len <= compressBound(CODEC_WINDOW);
}

/* What a point of each codec may look like. */
static bool point_fits(const struct blobmap *m, const struct blobmap_point *p)
{
	if (p->in > m->blob_size || p->out > LIMIT_TAR_SIZE || p->bits > 7 || p->member > 1)
		return false;
	if (!window_fits(p) || (p->bits && p->in == 0))
		return false;
	if (m->codec == CODEC_GZIP)
		return !p->member || (!p->bits && !p->window_len);
	if (p->bits || p->window_len)
		return false;
	return m->codec == CODEC_ZSTD ? p->member : !p->member && p->in == p->out;
}

static const char *check_points(const struct blobmap *m)
{
	struct blobmap_point last = {0};
	uint64_t window = 0;

	for (uint32_t i = 0; i < m->npoints; i++) {
		struct blobmap_point p = get_point(m, i);

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
		struct blobmap_point p;

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

	if (bytes_le32(in) != BLOBMAP_VERSION || bytes_le32(in) != BLOBMAP_HEADER_SIZE)
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
	m->points = bytes_take(in, (size_t)m->npoints * BLOBMAP_POINT_SIZE);
	m->spans = bytes_take(in, (size_t)m->nspans * BLOBMAP_SPAN_SIZE);
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

	if (len < BLOBMAP_HEADER_SIZE + DIGEST_SIZE)
		return "it is cut short";
	in = bytes_of(data, len - DIGEST_SIZE);
	if (memcmp(bytes_take(&in, BLOBMAP_MAGIC_SIZE), BLOBMAP_MAGIC, BLOBMAP_MAGIC_SIZE) != 0)
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
	struct blobmap_point p = get_point(m, point);

	return point_start(&p);
}

uint64_t blobmap_point_out(const struct blobmap *m, uint32_t point)
{
	return get_point(m, point).out;
}

int blobmap_checkpoint(const struct blobmap *m, uint32_t point, struct checkpoint *ret)
{
	struct blobmap_point p;
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
