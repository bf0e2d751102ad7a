/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_BYTES_H
#define OCI_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * The one door for binary input: a view that is read from the front. A read past the end sets
 * `short_read`, returns zeros (or NULL) and leaves the rest empty, so a parser may read a whole
 * record and check once with bytes_ok().
 */
struct bytes {
	const uint8_t *p; /* borrowed */
	size_t left;
	bool short_read;
};

static inline struct bytes bytes_of(const void *p, size_t len)
{
	return (struct bytes){.p = p, .left = len, .short_read = false};
}

static inline bool bytes_ok(const struct bytes *b)
{
	return !b->short_read;
}

/* The next @n bytes without copying, or NULL when there are fewer. */
static inline const void *bytes_take(struct bytes *b, size_t n)
{
	const uint8_t *p = b->p;

	if (b->short_read || n > b->left) {
		b->short_read = true;
		b->left = 0;
		return NULL;
	}
	b->p += n;
	b->left -= n;
	return p;
}

static inline void bytes_copy(struct bytes *b, void *dst, size_t n)
{
	const void *p = bytes_take(b, n);

	if (p)
		memcpy(dst, p, n);
	else
		memset(dst, 0, n);
}

static inline uint64_t bytes_le(struct bytes *b, size_t n)
{
	const uint8_t *p = bytes_take(b, n);
	uint64_t v = 0;

	for (size_t i = 0; p && i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static inline uint8_t bytes_u8(struct bytes *b)
{
	return (uint8_t)bytes_le(b, 1);
}
static inline uint16_t bytes_le16(struct bytes *b)
{
	return (uint16_t)bytes_le(b, 2);
}
static inline uint32_t bytes_le32(struct bytes *b)
{
	return (uint32_t)bytes_le(b, 4);
}
static inline uint64_t bytes_le64(struct bytes *b)
{
	return bytes_le(b, 8);
}

/* Checked arithmetic: true when the result fits. */
static inline bool add_ok(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

static inline bool mul_ok(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

/* @align is a power of two; the caller knows that @v is not within @align of UINT64_MAX. */
static inline uint64_t round_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t round_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

#endif
