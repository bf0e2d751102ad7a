/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "oci/base/err.h"
#include "oci/codec/decoder.h"
#include "oci/codec/gzip_members.h"

/*
 * gzip (RFC 1952) by zlib. A member is begun with zlib's own header parser (windowBits 31); only
 * the member a checkpoint lies in is decoded as raw deflate, and then its trailer is skipped by
 * hand. With `track`, Z_BLOCK makes inflate() stop at every deflate block, where a checkpoint can
 * be taken; it costs nothing measurable.
 */

/*
 * A block border becomes the checkpoint only when it is this far behind the one before, in
 * output or in input. Taking one copies 32 KiB; without a distance a blob of empty blocks would
 * make us copy 6,000 bytes for each of its own.
 */
#define TRACK_OUT 4096
#define TRACK_IN  32768

struct gzip {
	z_stream z;
	bool ready; /* z is initialised */
	struct gzip_members members;
	struct checkpoint last;
};

static int zlib_failed(const struct decoder *d, int zr, struct err *e)
{
	const struct gzip *g = d->state;

	if (zr == Z_MEM_ERROR)
		return err_set(e, -ENOMEM, "out of memory for zlib");
	if (zr == Z_STREAM_ERROR || zr == Z_VERSION_ERROR)
		return err_set(e, -EINVAL, "zlib refuses to work (%d)", zr);
	return decoder_bad(d, g->z.msg ? g->z.msg : "not decodable", e);
}

static int resume(struct decoder *d, const struct checkpoint *from, struct err *e)
{
	struct gzip *g = d->state;
	uint8_t bits;
	int zr, r;

	zr = inflateInit2(&g->z, -MAX_WBITS);
	if (zr != Z_OK)
		return zlib_failed(d, zr, e);
	g->ready = true;
	r = gzip_members_resume(d, &g->members, from->bits, &bits, e);
	if (r < 0)
		return r;
	if (from->bits)
		zr = inflatePrime(&g->z, from->bits, bits);
	if (zr == Z_OK && from->window_len)
		zr = inflateSetDictionary(&g->z, from->window, from->window_len);
	return zr == Z_OK ? 0 : zlib_failed(d, zr, e);
}

static void note_member(struct decoder *d)
{
	struct gzip *g = d->state;

	g->last.in = decoder_pos(d);
	g->last.out = d->out;
	g->last.bits = 0;
	g->last.member = true;
	g->last.window_len = 0;
}

static int note_block(struct decoder *d, uint64_t out, struct err *e)
{
	struct gzip *g = d->state;
	uInt len = 0;
	int zr;

	if (out - g->last.out < TRACK_OUT && decoder_pos(d) - g->last.in < TRACK_IN)
		return 0;
	zr = inflateGetDictionary(&g->z, g->last.window, &len);
	if (zr != Z_OK)
		return zlib_failed(d, zr, e);
	g->last.in = decoder_pos(d);
	g->last.out = out;
	g->last.bits = g->z.data_type & 7;
	g->last.member = false;
	g->last.window_len = len;
	return 0;
}

static int begin_member(struct decoder *d, struct err *e)
{
	struct gzip *g = d->state;
	int zr;

	zr = g->ready ? inflateReset2(&g->z, MAX_WBITS + 16) : inflateInit2(&g->z, MAX_WBITS + 16);
	if (zr != Z_OK)
		return zlib_failed(d, zr, e);
	g->ready = true;
	inflateValidate(&g->z, d->opt.verify);
	note_member(d);
	return 0;
}

/* One call of inflate(): bytes that came out (0 is progress too), or a negative errno. */
static ssize_t inflate_some(struct decoder *d, void *buf, size_t n, struct err *e)
{
	struct gzip *g = d->state;
	ssize_t left = decoder_fill(d, 1, e);
	size_t got;
	int zr, r;

	if (left < 0)
		return left;
	n = n > INT_MAX ? INT_MAX : n;
	g->z.next_in = d->buf + d->pos;
	g->z.avail_in = (uInt)left;
	g->z.next_out = buf;
	g->z.avail_out = (uInt)n;
	zr = inflate(&g->z, d->opt.track ? Z_BLOCK : Z_NO_FLUSH);
	d->pos = d->len - g->z.avail_in;
	got = n - g->z.avail_out;
	if (zr == Z_STREAM_END) {
		gzip_members_ended(&g->members);
		return (ssize_t)got;
	}
	/* A block may end in bits that zlib holds already: Z_BUF_ERROR, and progress all the same.
	 */
	if (zr == Z_BUF_ERROR && !(g->z.data_type & 128))
		return decoder_short(d, "a member", e);
	if (zr != Z_OK && zr != Z_BUF_ERROR)
		/* What came out before the damage is good; the next call finds the damage again. */
		return got > 0 ? (ssize_t)got : zlib_failed(d, zr, e);
	if (d->opt.track && (g->z.data_type & (128 | 64)) == 128) {
		r = note_block(d, d->out + got, e);
		if (r < 0)
			return r;
	}
	return (ssize_t)got;
}

static int gzip_open(struct decoder *d, const struct checkpoint *from, struct err *e)
{
	struct gzip *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(e, -ENOMEM, "out of memory for a gzip decoder");
	d->state = g;
	g->members.begin = begin_member;
	g->members.some = inflate_some;
	if (from)
		g->last = *from;
	else
		g->last.member = true;
	if (from && !from->member)
		return resume(d, from, e);
	g->members.between = true;
	return 0;
}

static ssize_t gzip_read(struct decoder *d, void *buf, size_t n, struct err *e)
{
	struct gzip *g = d->state;

	return gzip_members_read(d, &g->members, buf, n, e);
}

static void gzip_checkpoint(const struct decoder *d, struct checkpoint *ret)
{
	const struct gzip *g = d->state;

	ret->in = g->last.in;
	ret->out = g->last.out;
	ret->bits = g->last.bits;
	ret->member = g->last.member;
	ret->window_len = g->last.window_len;
	memcpy(ret->window, g->last.window, g->last.window_len);
}

static void gzip_free(struct decoder *d)
{
	struct gzip *g = d->state;

	if (g && g->ready)
		inflateEnd(&g->z);
	free(g);
}

const struct decoder_ops decoder_gzip = {
	.name = "gzip",
	.open = gzip_open,
	.read = gzip_read,
	.checkpoint = gzip_checkpoint,
	.free = gzip_free,
};
