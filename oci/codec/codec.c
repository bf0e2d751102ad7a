/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/codec/codec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/codec/decoder.h"
#include "oci/stream.h"

static const struct decoder_ops *const ops_of[CODEC_COUNT] = {
	[CODEC_RAW] = &decoder_raw,
	[CODEC_GZIP] = &decoder_gzip,
	[CODEC_ZSTD] = &decoder_zstd,
};

enum codec_kind codec_sniff(const void *head, size_t len)
{
	static const uint8_t gzip[] = {0x1f, 0x8b};
	static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
	static const uint8_t skippable[] = {0x2a, 0x4d, 0x18}; /* after 0x50..0x5f */
	const uint8_t *p = head;

	if (len >= sizeof(gzip) && memcmp(p, gzip, sizeof(gzip)) == 0)
		return CODEC_GZIP;
	if (len >= sizeof(zstd) && memcmp(p, zstd, sizeof(zstd)) == 0)
		return CODEC_ZSTD;
	if (len >= 4 && (p[0] & 0xf0) == 0x50 && memcmp(p + 1, skippable, 3) == 0)
		return CODEC_ZSTD;
	return CODEC_RAW;
}

const char *codec_name(enum codec_kind k)
{
	return (unsigned)k < CODEC_COUNT ? ops_of[k]->name : "unknown";
}

static int check_checkpoint(const struct checkpoint *from)
{
	if (from->bits > 7 || (from->bits && from->in == 0) || from->window_len > CODEC_WINDOW)
		return -EINVAL;
	if (from->member && (from->bits || from->window_len))
		return -EINVAL;
	return 0;
}

static const struct decoder_ops *choose(enum codec_kind kind, const struct checkpoint *from,
					const struct decoder_options *opt)
{
#ifdef TARN_ISAL
	if (kind == CODEC_GZIP && from && !opt->track)
		return &decoder_gzip_isal;
#endif
	return ops_of[kind];
}

int decoder_open(enum codec_kind kind, const struct checkpoint *from, struct stream *in,
		 const struct decoder_options *opt, struct decoder **ret, struct err *e)
{
	_cleanup_(decoder_freep) struct decoder *d = NULL;
	int r;

	if ((unsigned)kind >= CODEC_COUNT || (from && check_checkpoint(from) < 0))
		return err_set(e, -EINVAL, "the checkpoint to decode from makes no sense");
	d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, -ENOMEM, "out of memory for a decoder");
	d->ops = choose(kind, from, opt);
	d->opt = *opt;
	d->in = in;
	if (from) {
		d->end = from->in - (from->bits ? 1 : 0);
		d->out = from->out;
	}
	if (kind != CODEC_RAW) {
		d->buf = malloc(DECODER_INPUT);
		if (!d->buf)
			return err_set(e, -ENOMEM, "out of memory for a decoder");
	}
	r = d->ops->open(d, from, e);
	if (r < 0)
		return r;
	*ret = take_ptr(d);
	return 0;
}

struct decoder *decoder_free(struct decoder *d)
{
	if (!d)
		return NULL;
	d->ops->free(d);
	free(d->buf);
	free(d);
	return NULL;
}

ssize_t decoder_read(struct decoder *d, void *buf, size_t n, struct err *e)
{
	ssize_t r;

	if (n == 0)
		return 0;
	r = d->ops->read(d, buf, n, e);
	if (r > 0)
		d->out += (uint64_t)r;
	return r;
}

uint64_t decoder_consumed(const struct decoder *d)
{
	return d->ops->consumed ? d->ops->consumed(d) : decoder_pos(d);
}

void decoder_checkpoint(const struct decoder *d, struct checkpoint *ret)
{
	d->ops->checkpoint(d, ret);
}

ssize_t decoder_fill(struct decoder *d, size_t want, struct err *e)
{
	ssize_t r;

	if (decoder_left(d) < want && d->pos > 0) {
		memmove(d->buf, d->buf + d->pos, decoder_left(d));
		d->len -= d->pos;
		d->pos = 0;
	}
	while (decoder_left(d) < want && !d->eof) {
		r = stream_read(d->in, d->buf + d->len, DECODER_INPUT - d->len, e);
		if (r < 0)
			return r;
		if (r == 0)
			d->eof = true;
		d->len += (size_t)r;
		d->end += (uint64_t)r;
	}
	return (ssize_t)decoder_left(d);
}

int decoder_bad(const struct decoder *d, const char *why, struct err *e)
{
	return err_set(e, -EBADMSG, "%s data is damaged at byte %" PRIu64 ": %s", d->ops->name,
		       decoder_pos(d), why);
}

int decoder_short(const struct decoder *d, const char *where, struct err *e)
{
	return err_set(e, -ENODATA, "%s data ends at byte %" PRIu64 ", inside %s", d->ops->name,
		       decoder_pos(d), where);
}
