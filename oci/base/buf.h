/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_BUF_H
#define OCI_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

/*
 * A growable byte buffer with a hard maximum. A failure (out of memory, past the maximum) is
 * sticky: later calls do nothing and return the same code, so a run of puts needs one check.
 */
struct buf {
	uint8_t *data; /* owned; NULL while empty */
	size_t len;
	size_t cap;
	size_t max; /* bytes this buffer may hold at most */
	int failed; /* 0, -ENOMEM or -EFBIG; -EINVAL: a json_gen was used wrongly */
};

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);  /* NULL-safe; leaves an empty buffer with the same maximum */
void buf_clear(struct buf *b); /* keeps the memory, forgets content and failure */

int buf_put(struct buf *b, const void *data, size_t len);
int buf_put_str(struct buf *b, const char *s); /* without the NUL */
int buf_put_u8(struct buf *b, uint8_t v);
int buf_put_le16(struct buf *b, uint16_t v);
int buf_put_le32(struct buf *b, uint32_t v);
int buf_put_le64(struct buf *b, uint64_t v);
int buf_put_zeros(struct buf *b, size_t n);
int buf_pad_to(struct buf *b, size_t align); /* zeros up to the next multiple of @align */
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes room for @n more bytes and returns where they go, or NULL; buf_commit() adds them. */
void *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);

/* A NUL-terminated view of the content (the NUL is not counted in len), or NULL on failure. */
const char *buf_cstr(struct buf *b);

#define _cleanup_buf_ __attribute__((cleanup(buf_free)))

#endif
