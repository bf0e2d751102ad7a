/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PACKING_H
#define TESTS_UNIT_PACKING_H

/* Makes compressed blobs of all the shapes that real tools write. For tests only: asserts. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#include <zstd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/stream.h"

#define PACKING_MAX ((size_t)256 << 20)

/* The same bytes for the same seed: stretches of words, of noise, of zeros and of repetition. */
static inline void packing_fill(uint8_t *p, size_t len, uint64_t seed)
{
	static const char *const words[] = {"lake ", "stone ",           "layer\n", "/usr/lib/",
					    "0123",  "int main(void)\n", "\t\t",    "="};
	size_t i = 0;

	seed = seed * 2 + 1;
	while (i < len) {
		size_t run;
		unsigned kind;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		run = 500 + (seed >> 33) % 40000;
		kind = (seed >> 60) & 7;
		for (size_t end = i + run; i < end && i < len;) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			if (kind < 5) {
				const char *w = words[(seed >> 40) % 8];

				for (; *w && i < len; w++)
					p[i++] = (uint8_t)*w;
			} else if (kind == 5) {
				p[i++] = (uint8_t)(seed >> 50);
			} else {
				p[i] = kind == 6 || i < 300 ? 0 : p[i - 300];
				i++;
			}
		}
	}
}

/* One gzip member. With @chunk, flushes with @flush after every @chunk bytes. */
static inline void packing_gzip(struct buf *out, const void *data, size_t len, int level,
				size_t chunk, int flush)
{
	z_stream z = {0};
	size_t done = 0;
	int r;

	r = deflateInit2(&z, level, Z_DEFLATED, 31, 9, Z_DEFAULT_STRATEGY);
	assert(r == Z_OK);
	do {
		size_t n = chunk && chunk < len - done ? chunk : len - done;

		z.next_in = (Bytef *)(uintptr_t)data + done;
		z.avail_in = (uInt)n;
		done += n;
		do {
			z.next_out = buf_reserve(out, 65536);
			assert(z.next_out);
			z.avail_out = 65536;
			r = deflate(&z, done == len ? Z_FINISH : flush);
			buf_commit(out, 65536 - z.avail_out);
		} while (z.avail_out == 0 || (done == len && r != Z_STREAM_END));
	} while (done < len);
	deflateEnd(&z);
}

/* One zstd frame. */
static inline void packing_zstd(struct buf *out, const void *data, size_t len, int level,
				int checksum)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(len);
	void *dst = buf_reserve(out, room);
	size_t n;

	assert(c && dst);
	ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, checksum);
	n = ZSTD_compress2(c, dst, room, data, len);
	assert(!ZSTD_isError(n));
	buf_commit(out, n);
	ZSTD_freeCCtx(c);
}

static inline void packing_zstd_skippable(struct buf *out, unsigned kind, size_t len)
{
	buf_put_le32(out, 0x184d2a50u + kind);
	buf_put_le32(out, (uint32_t)len);
	buf_put_zeros(out, len);
}

/* A stream that gives at most @step bytes at a time, and fails with @code at its end if set. */
struct drip {
	struct stream s;
	const uint8_t *p;
	size_t left, step;
	int code;
};

static inline ssize_t drip_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct drip *d = (struct drip *)s;

	n = n < d->step ? n : d->step;
	n = n < d->left ? n : d->left;
	if (n == 0)
		return d->code;
	memcpy(buf, d->p, n);
	d->p += n;
	d->left -= n;
	return (ssize_t)n;
}

static inline void drip_free(struct stream *s) {}

static inline struct drip drip_of(const void *p, size_t len, size_t step)
{
	return (struct drip){{drip_read, drip_free}, p, len, step, 0};
}

#endif
