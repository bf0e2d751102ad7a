/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TARMAKE_H
#define TESTS_UNIT_TARMAKE_H

/* Writes tars, right ones and wrong ones, header by header. For tests only. */

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/buf.h"

/* One member; fields left out are 0. */
struct tarmake {
	const char *name;  /* at most 100 bytes */
	const char *link;  /* at most 100 bytes */
	char type;         /* 0 means '0' */
	const char *magic; /* NULL means POSIX ustar; else 8 bytes */
	uint32_t mode, uid, gid;
	int64_t mtime;
	uint32_t major, minor;
	const void *data; /* NULL: no data follows, whatever size says */
	uint64_t size;
};

static inline void tarmake_octal(uint8_t *dst, size_t width, uint64_t v)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*llo", (int)width - 1, (unsigned long long)v);
	assert(strlen(text) == width - 1);
	memcpy(dst, text, width);
}

/* GNU's way of writing what octal digits can not hold. */
static inline void tarmake_base256(uint8_t *dst, size_t width, int64_t v)
{
	uint64_t bits = (uint64_t)v;

	memset(dst, v < 0 ? 0xff : 0, width);
	for (size_t i = width; i-- > 0 && width - i <= 8;) {
		dst[i] = (uint8_t)bits;
		bits >>= 8;
	}
	dst[0] |= 0x80;
}

static inline void tarmake_number(uint8_t *dst, size_t width, int64_t v)
{
	if (v < 0 || (uint64_t)v >> (3 * (width - 1)))
		tarmake_base256(dst, width, v);
	else
		tarmake_octal(dst, width, (uint64_t)v);
}

static inline void tarmake_checksum(uint8_t *block)
{
	unsigned sum = 0;

	memset(block + 148, ' ', 8);
	for (size_t i = 0; i < 512; i++)
		sum += block[i];
	tarmake_octal(block + 148, 7, sum);
}

static inline void tarmake_header(struct buf *out, const struct tarmake *m)
{
	uint8_t *b = buf_reserve(out, 512);

	assert(b && strlen(m->name) <= 100 && (!m->link || strlen(m->link) <= 100));
	memset(b, 0, 512);
	memcpy(b, m->name, strlen(m->name));
	tarmake_number(b + 100, 8, m->mode);
	tarmake_number(b + 108, 8, m->uid);
	tarmake_number(b + 116, 8, m->gid);
	tarmake_number(b + 124, 12, (int64_t)m->size);
	tarmake_number(b + 136, 12, m->mtime);
	b[156] = m->type ? (uint8_t)m->type : '0';
	if (m->link)
		memcpy(b + 157, m->link, strlen(m->link));
	memcpy(b + 257, m->magic ? m->magic : "ustar\00000", 8);
	tarmake_number(b + 329, 8, m->major);
	tarmake_number(b + 337, 8, m->minor);
	tarmake_checksum(b);
	buf_commit(out, 512);
}

static inline void tarmake_put(struct buf *out, const struct tarmake *m)
{
	tarmake_header(out, m);
	if (m->data)
		buf_put(out, m->data, m->size);
	buf_pad_to(out, 512);
}

/* One PAX record; the length in front counts itself. */
static inline void tarmake_record(struct buf *pax, const char *key, const void *value, size_t len)
{
	size_t rest = strlen(key) + len + 3, total = rest + 1;
	char digits[24];

	for (;;) {
		snprintf(digits, sizeof(digits), "%zu", total);
		if (rest + strlen(digits) == total)
			break;
		total = rest + strlen(digits);
	}
	buf_printf(pax, "%s %s=", digits, key);
	buf_put(pax, value, len);
	buf_put_u8(pax, '\n');
}

static inline void tarmake_record_str(struct buf *pax, const char *key, const char *value)
{
	tarmake_record(pax, key, value, strlen(value));
}

/* A special member of type 'x', 'g', 'L' or 'K' in front of the one it describes. */
static inline void tarmake_special(struct buf *out, char type, const void *body, size_t len)
{
	tarmake_put(out, &(struct tarmake){.name = "PaxHeaders/0",
					   .type = type,
					   .mode = 0644,
					   .magic = type == 'L' || type == 'K' ? "ustar  \0" : NULL,
					   .data = body,
					   .size = len});
}

static inline void tarmake_pax(struct buf *out, struct buf *pax)
{
	assert(!pax->failed);
	tarmake_special(out, 'x', pax->data, pax->len);
	buf_clear(pax);
}

static inline void tarmake_end(struct buf *out)
{
	buf_put_zeros(out, 1024);
	assert(!out->failed);
}

#endif
