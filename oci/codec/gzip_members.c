/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/codec/gzip_members.h"

#include "oci/base/err.h"
#include "oci/codec/decoder.h"

/* RFC 1952 2.3: CRC32 and ISIZE */
#define TRAILER 8

int gzip_members_resume(struct decoder *d, struct gzip_members *m, unsigned int nbits,
			uint8_t *ret_bits, struct err *e)
{
	ssize_t left;

	m->any = true;
	m->headless = true;
	*ret_bits = 0;
	if (nbits == 0)
		return 0;
	left = decoder_fill(d, 1, e);
	if (left < 0)
		return (int)left;
	if (left == 0)
		return decoder_short(d, "a member", e);
	*ret_bits = (uint8_t)(d->buf[d->pos++] >> (8 - nbits));
	return 0;
}

void gzip_members_ended(struct gzip_members *m)
{
	m->between = true;
	m->trailer = m->headless;
}

/* Zero bytes up to the end of the input: 0, anything else: -EBADMSG. */
static int skip_padding(struct decoder *d, struct err *e)
{
	ssize_t left;

	while ((left = decoder_fill(d, 1, e)) > 0) {
		while (decoder_left(d) > 0) {
			if (d->buf[d->pos] != 0)
				return decoder_bad(d, "not a gzip member", e);
			d->pos++;
		}
	}
	return (int)left;
}

/* 1: the next member's header begins, 0: nothing but zero bytes followed, they are skipped. */
static int find_header(struct decoder *d, bool any, struct err *e)
{
	ssize_t left = decoder_fill(d, 1, e);

	if (left < 0)
		return (int)left;
	if (left == 0)
		return any ? 0 : decoder_short(d, "the first member", e);
	if (any && d->buf[d->pos] == 0)
		return skip_padding(d, e);
	return d->buf[d->pos] == 0x1f ? 1 : decoder_bad(d, "not a gzip member", e);
}

/* Takes a trailer that the library has not seen. */
static int skip_trailer(struct decoder *d, struct err *e)
{
	ssize_t left = decoder_fill(d, TRAILER, e);

	if (left < 0)
		return (int)left;
	if (left < TRAILER)
		return decoder_short(d, "a member's trailer", e);
	d->pos += TRAILER;
	return 0;
}

/* Between members. 1: the next one has begun, 0: there is none. */
static int next_member(struct decoder *d, struct gzip_members *m, struct err *e)
{
	int r = m->trailer ? skip_trailer(d, e) : 0;

	if (r < 0)
		return r;
	m->trailer = false;
	r = find_header(d, m->any, e);
	if (r <= 0)
		return r;
	r = m->begin(d, e);
	if (r < 0)
		return r;
	m->any = true;
	m->headless = false;
	m->between = false;
	return 1;
}

ssize_t gzip_members_read(struct decoder *d, struct gzip_members *m, void *buf, size_t n,
			  struct err *e)
{
	ssize_t r;

	for (;;) {
		if (m->between) {
			r = next_member(d, m, e);
			if (r <= 0)
				return r;
		}
		r = m->some(d, buf, n, e);
		if (r != 0)
			return r;
	}
}
