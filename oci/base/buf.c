/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_CAP 64

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
	if (!b)
		return;
	free(b->data);
	buf_init(b, b->max);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = 0;
}

static bool fail(struct buf *b, int code)
{
	b->failed = code;
	return false;
}

/* The capacity for @need bytes: doubled so that n puts cost O(n), yet never past the maximum. */
static size_t next_cap(const struct buf *b, size_t need)
{
	size_t cap = b->cap < BUF_FIRST_CAP ? BUF_FIRST_CAP : b->cap;

	if (cap > SIZE_MAX / 2)
		return need;
	if (b->cap >= BUF_FIRST_CAP)
		cap *= 2;
	if (b->max < SIZE_MAX && cap > b->max + 1)
		cap = b->max + 1;
	return cap < need ? need : cap;
}

/* Room for @n more bytes and for the NUL of buf_cstr(), which the maximum does not count. */
static bool grow(struct buf *b, size_t n)
{
	size_t need;
	uint8_t *data;

	if (b->failed)
		return false;
	if (n > b->max - b->len)
		return fail(b, -EFBIG);
	if (__builtin_add_overflow(b->len + n, 1, &need))
		return fail(b, -EFBIG);
	if (need <= b->cap)
		return true;
	need = next_cap(b, need);
	data = realloc(b->data, need);
	if (!data)
		return fail(b, -ENOMEM);
	b->data = data;
	b->cap = need;
	return true;
}

void *buf_reserve(struct buf *b, size_t n)
{
	return grow(b, n) ? b->data + b->len : NULL;
}

void buf_commit(struct buf *b, size_t n)
{
	if (b->failed)
		return;
	/* More than was reserved is the caller's bug: refuse the content, keep the memory safe. */
	if (n >= b->cap - b->len && n > 0) {
		fail(b, -EFBIG);
		return;
	}
	b->len += n;
}

int buf_put(struct buf *b, const void *data, size_t len)
{
	void *dst = buf_reserve(b, len);

	if (!dst)
		return b->failed;
	if (len > 0)
		memcpy(dst, data, len);
	b->len += len;
	return 0;
}

int buf_put_str(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

static int put_le(struct buf *b, uint64_t v, size_t n)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(v >> (8 * i));
	return buf_put(b, bytes, n);
}

int buf_put_u8(struct buf *b, uint8_t v)
{
	return put_le(b, v, 1);
}

int buf_put_le16(struct buf *b, uint16_t v)
{
	return put_le(b, v, 2);
}

int buf_put_le32(struct buf *b, uint32_t v)
{
	return put_le(b, v, 4);
}

int buf_put_le64(struct buf *b, uint64_t v)
{
	return put_le(b, v, 8);
}

int buf_put_zeros(struct buf *b, size_t n)
{
	void *dst = buf_reserve(b, n);

	if (!dst)
		return b->failed;
	memset(dst, 0, n);
	b->len += n;
	return 0;
}

int buf_pad_to(struct buf *b, size_t align)
{
	size_t over = align ? b->len % align : 0;

	return buf_put_zeros(b, over ? align - over : 0);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	char *dst;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	/* Only a text of more than INT_MAX bytes comes here: there are no wide strings in tarn. */
	if (n < 0 && !b->failed)
		fail(b, -EFBIG);
	dst = n < 0 ? NULL : buf_reserve(b, (size_t)n);
	if (!dst)
		return b->failed;
	va_start(ap, fmt);
	vsnprintf(dst, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
	return 0;
}

const char *buf_cstr(struct buf *b)
{
	if (!grow(b, 0))
		return NULL;
	b->data[b->len] = '\0';
	return (const char *)b->data;
}
