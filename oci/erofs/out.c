/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/fd.h"

#define OUT_BUFFER (256u << 10)

_Static_assert(OUT_HEAD <= OUT_BUFFER, "the head is kept from the first buffer");

int out_init(struct out *o, int fd)
{
	*o = (struct out){.fd = fd, .buf = malloc(OUT_BUFFER)};
	return o->buf ? 0 : -ENOMEM;
}

void out_done(struct out *o)
{
	free(o->buf);
	*o = (struct out){.fd = -1};
}

int out_flush(struct out *o)
{
	if (o->off == 0)
		memcpy(o->head, o->buf, o->len < OUT_HEAD ? o->len : OUT_HEAD);
	if (!o->failed && o->len)
		o->failed = fd_pwrite_full(o->fd, o->buf, o->len, o->off);
	o->off += o->len;
	o->len = 0;
	return o->failed;
}

/* Room for up to @want bytes; *@ret_len says how many there are, at least one. */
static uint8_t *room(struct out *o, uint64_t want, size_t *ret_len)
{
	if (o->len == OUT_BUFFER)
		out_flush(o);
	*ret_len = want < OUT_BUFFER - o->len ? (size_t)want : OUT_BUFFER - o->len;
	o->len += *ret_len;
	return o->buf + o->len - *ret_len;
}

void out_put(struct out *o, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0 && !o->failed) {
		size_t n;
		uint8_t *dst = room(o, len, &n);

		memcpy(dst, p, n);
		p += n;
		len -= n;
	}
}

uint64_t out_pos(const struct out *o)
{
	return o->off + o->len;
}

void out_zeros_to(struct out *o, uint64_t pos)
{
	while (!o->failed && out_pos(o) < pos) {
		size_t n;
		uint8_t *dst = room(o, pos - out_pos(o), &n);

		memset(dst, 0, n);
	}
	/* Behind us would mean that the layout and the writer disagree: not an image to mount. */
	if (!o->failed && out_pos(o) > pos)
		o->failed = -EIO;
}
