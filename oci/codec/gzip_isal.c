/* SPDX-License-Identifier: Apache-2.0 */
#ifdef TARN_ISAL

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <isa-l/igzip_lib.h>

#include "oci/base/err.h"
#include "oci/codec/decoder.h"
#include "oci/codec/gzip_members.h"
#include "oci/stream.h"

/*
 * gzip from a checkpoint by ISA-L: the same bytes as gzip.c, twice as fast. It can not stop at
 * deflate blocks, so the pass that looks for checkpoints stays with zlib. CRCs of whole members
 * are always checked, they cost nothing here.
 *
 * The bits before a checkpoint go straight into ISA-L's bit buffer (read_in, read_in_length):
 * there is no call for it as zlib's inflatePrime(), but both fields are in the public header.
 */

/* ISA-L reads up to 8 bytes ahead, and at a member's end we take back what it did not use. */
#define SLACK 8

struct isal {
	struct inflate_state s; /* some 87 KiB */
	struct gzip_members members;
	bool failed;
};

/* decoder_fill(d, 1, e) that leaves the last bytes used where they can be taken back. */
static ssize_t fill(struct decoder *d, struct err *e)
{
	size_t keep = d->len < SLACK ? d->len : SLACK;
	ssize_t r;

	if (decoder_left(d) > 0 || d->eof)
		return (ssize_t)decoder_left(d);
	memmove(d->buf, d->buf + d->len - keep, keep);
	d->pos = keep;
	d->len = keep;
	r = stream_read(d->in, d->buf + keep, DECODER_INPUT - keep, e);
	if (r < 0)
		return r;
	d->eof = r == 0;
	d->len += (size_t)r;
	d->end += (uint64_t)r;
	return r;
}

static int resume(struct decoder *d, const struct checkpoint *from, struct err *e)
{
	struct isal *g = d->state;
	uint8_t bits;
	int r = gzip_members_resume(d, &g->members, from->bits, &bits, e);

	if (r < 0)
		return r;
	g->s.crc_flag = ISAL_DEFLATE;
	g->s.read_in = bits;
	g->s.read_in_length = from->bits;
	/* The library only reads the window, whatever its prototype says. */
	if (from->window_len &&
	    isal_inflate_set_dict(&g->s, (uint8_t *)(uintptr_t)from->window, from->window_len) != 0)
		return err_set(e, -EINVAL, "ISA-L refuses a window of %u bytes", from->window_len);
	return 0;
}

static int begin_member(struct decoder *d, struct err *e)
{
	struct isal *g = d->state;

	isal_inflate_reset(&g->s);
	g->s.crc_flag = ISAL_GZIP;
	return 0;
}

static const char *why_bad(int code)
{
	switch (code) {
	case ISAL_INVALID_BLOCK:
		return "invalid block";
	case ISAL_INVALID_SYMBOL:
		return "invalid symbol";
	case ISAL_INVALID_LOOKBACK:
		return "invalid distance too far back";
	case ISAL_INCORRECT_CHECKSUM:
		return "incorrect data check";
	default:
		return "incorrect header";
	}
}

static ssize_t inflate_some(struct decoder *d, void *buf, size_t n, struct err *e)
{
	struct isal *g = d->state;
	ssize_t left = g->failed ? decoder_bad(d, "not decodable", e) : fill(d, e);
	size_t got;
	int r;

	if (left < 0)
		return left;
	n = n > INT_MAX ? INT_MAX : n;
	g->s.next_in = d->buf + d->pos;
	g->s.avail_in = (uint32_t)left;
	g->s.next_out = buf;
	g->s.avail_out = (uint32_t)n;
	r = isal_inflate(&g->s);
	d->pos = d->len - g->s.avail_in;
	got = n - g->s.avail_out;
	if (r < 0) {
		g->failed = true;
		if (got == 0)
			return decoder_bad(d, why_bad(r), e);
	} else if (g->s.block_state == ISAL_BLOCK_FINISH) {
		/* Whole bytes that are still in the bit buffer belong to what follows. */
		d->pos -= (size_t)g->s.read_in_length / 8;
		gzip_members_ended(&g->members);
	} else if (got == 0 && left == 0) {
		return decoder_short(d, "a member", e);
	}
	return (ssize_t)got;
}

static int isal_open(struct decoder *d, const struct checkpoint *from, struct err *e)
{
	struct isal *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(e, -ENOMEM, "out of memory for a gzip decoder");
	d->state = g;
	g->members.begin = begin_member;
	g->members.some = inflate_some;
	isal_inflate_init(&g->s);
	if (from && !from->member)
		return resume(d, from, e);
	g->members.between = true;
	return 0;
}

static ssize_t isal_read(struct decoder *d, void *buf, size_t n, struct err *e)
{
	struct isal *g = d->state;

	return gzip_members_read(d, &g->members, buf, n, e);
}

/* Never asked for: `track` is zlib's. Where we are is not known to the bit, so: the start. */
static void isal_checkpoint(const struct decoder *d, struct checkpoint *ret)
{
	ret->in = 0;
	ret->out = 0;
	ret->bits = 0;
	ret->member = true;
	ret->window_len = 0;
}

static void isal_free(struct decoder *d)
{
	free(d->state);
}

const struct decoder_ops decoder_gzip_isal = {
	.name = "gzip",
	.open = isal_open,
	.read = isal_read,
	.checkpoint = isal_checkpoint,
	.free = isal_free,
};

#endif
