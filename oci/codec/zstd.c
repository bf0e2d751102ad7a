/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "oci/base/err.h"
#include "oci/codec/decoder.h"

/*
 * zstd (RFC 8878) by libzstd. Only frame starts are checkpoints: the public interface cannot
 * resume inside a frame. Checksums are always checked where a frame has one (there is no stable
 * call to leave that out), whatever `verify` says.
 *
 * We look at each frame's magic number ourselves: libzstd may be built to decode formats older
 * than the RFC, which no image uses and no fuzzer looks at.
 */

/* 128 MiB of window: what zstd(1) takes without --long=28 and more. Bounds a decoder's memory. */
#define WINDOW_LOG_MAX 27

#define MAGIC_SIZE 4

struct zstd {
	ZSTD_DStream *z;
	bool between;               /* before a frame or at the end */
	bool any;                   /* a frame has been seen */
	bool hostage;               /* libzstd has a byte that it says it has not taken */
	uint64_t consumed;          /* blob offset of what was needed for the output so far */
	uint64_t last_in, last_out; /* where the current frame starts */
	int late_code;              /* a failure that the next read reports */
	struct err late;
};

static int zstd_failed(const struct decoder *d, size_t zr, struct err *e)
{
	return decoder_bad(d, ZSTD_getErrorName(zr), e);
}

static int zstd_open(struct decoder *d, const struct checkpoint *from, struct err *e)
{
	struct zstd *s = calloc(1, sizeof(*s));

	d->state = s;
	if (s)
		s->z = ZSTD_createDStream();
	if (!s || !s->z)
		return err_set(e, -ENOMEM, "out of memory for a zstd decoder");
	if (ZSTD_isError(ZSTD_DCtx_setParameter(s->z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))
		return err_set(e, -EINVAL, "zstd refuses a window limit of %d", WINDOW_LOG_MAX);
	if (from && !from->member)
		return err_set(e, -EINVAL, "zstd can only start at a frame");
	s->between = true;
	s->consumed = d->end;
	s->last_in = d->end;
	s->last_out = d->out;
	return 0;
}

/* Between frames. 1: one begins here, 0: there is none. */
static int next_frame(struct decoder *d, struct err *e)
{
	static const uint8_t magic[MAGIC_SIZE] = {0x28, 0xb5, 0x2f, 0xfd};
	static const uint8_t skippable[MAGIC_SIZE] = {0x50, 0x2a, 0x4d, 0x18};
	struct zstd *s = d->state;
	ssize_t left = decoder_fill(d, MAGIC_SIZE, e);
	uint8_t head[MAGIC_SIZE];

	if (left < 0)
		return (int)left;
	if (left == 0)
		return s->any ? 0 : decoder_short(d, "the first frame", e);
	if (left < MAGIC_SIZE)
		return decoder_short(d, "a frame's header", e);
	memcpy(head, d->buf + d->pos, MAGIC_SIZE);
	if (memcmp(head, magic, MAGIC_SIZE) != 0) {
		head[0] &= 0xf0;
		if (memcmp(head, skippable, MAGIC_SIZE) != 0)
			return decoder_bad(d, "not a zstd frame", e);
	}
	s->last_in = decoder_pos(d);
	s->last_out = d->out;
	s->any = true;
	s->between = false;
	return 1;
}

/* One call of the library; *@ret_got bytes came out. 1: there was progress, 0: none. */
static int decompress(struct decoder *d, void *buf, size_t n, size_t *ret_got, struct err *e)
{
	struct zstd *s = d->state;
	ZSTD_inBuffer in = {.src = d->buf, .size = d->len, .pos = d->pos};
	ZSTD_outBuffer out = {.dst = buf, .size = n, .pos = 0};
	size_t was = d->pos;
	size_t zr = ZSTD_decompressStream(s->z, &out, &in);

	d->pos = in.pos;
	if (ZSTD_isError(zr))
		return zstd_failed(d, zr, e);
	s->between = zr == 0;
	s->hostage = zr == 1 && in.pos < in.size;
	*ret_got = out.pos;
	return out.pos > 0 || in.pos > was || zr == 0;
}

/*
 * The caller's bytes are complete; what is left of the frame may be an empty block and a
 * checksum. Finishing it now lets the next checkpoint be the frame that follows. A failure here
 * belongs to the bytes after these: it is kept for the next read.
 */
static void finish_frame(struct decoder *d)
{
	struct zstd *s = d->state;
	uint8_t none[1];
	size_t got;
	ssize_t r;

	while (!s->between) {
		r = decoder_fill(d, 1, &s->late);
		if (r > 0)
			r = decompress(d, none, 0, &got, &s->late);
		if (r < 0)
			s->late_code = (int)r;
		if (r <= 0)
			return;
	}
}

static ssize_t zstd_read(struct decoder *d, void *buf, size_t n, struct err *e)
{
	struct zstd *s = d->state;
	size_t got = 0;
	ssize_t left;
	int r;

	if (s->late_code)
		return err_take(e, s->late_code, s->late.text, &s->late.links);
	while (got == 0) {
		if (s->between) {
			r = next_frame(d, e);
			s->consumed = decoder_pos(d);
			if (r <= 0)
				return r;
		}
		left = decoder_fill(d, 1, e);
		if (left < 0)
			return left;
		r = decompress(d, buf, n, &got, e);
		if (r < 0)
			return r;
		if (r == 0 && left == 0)
			return decoder_short(d, "a frame", e);
	}
	/*
	 * At the end of a frame whose output is not fetched yet, libzstd hands its last byte back,
	 * so that it will be called again. To decode the same once more that byte is needed.
	 */
	s->consumed = decoder_pos(d) + s->hostage;
	if (d->opt.track && got == n)
		finish_frame(d);
	return (ssize_t)got;
}

static uint64_t zstd_consumed(const struct decoder *d)
{
	const struct zstd *s = d->state;

	return s->consumed;
}

static void zstd_checkpoint(const struct decoder *d, struct checkpoint *ret)
{
	const struct zstd *s = d->state;

	ret->in = s->between ? decoder_pos(d) : s->last_in;
	ret->out = s->between ? d->out : s->last_out;
	ret->bits = 0;
	ret->member = true;
	ret->window_len = 0;
}

static void zstd_free(struct decoder *d)
{
	struct zstd *s = d->state;

	if (s)
		ZSTD_freeDStream(s->z);
	free(s);
}

const struct decoder_ops decoder_zstd = {
	.name = "zstd",
	.open = zstd_open,
	.read = zstd_read,
	.consumed = zstd_consumed,
	.checkpoint = zstd_checkpoint,
	.free = zstd_free,
};
