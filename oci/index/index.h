/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_INDEX_H
#define OCI_INDEX_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/index/entry.h"

struct buf;
struct err;

/*
 * The index of one layer: what is in its plain tar, and a sha256 for each span of it. It does
 * not depend on how the tar was compressed. On disk (`layers/<diff_id>/index`), little-endian:
 *
 *   header   magic "TARNIDX\1", version u32, header size u32, diff_id[32], tar_size u64,
 *            span_size u32, nspans u32, toc_len u64, nentries u64
 *   toc      nentries records (see toc_put in index.c)
 *   digests  nspans * 32 bytes
 *   sum      sha256 of everything before it
 *
 * Spans are uniform: span i is tar bytes [i * span_size, min((i + 1) * span_size, tar_size)).
 * span_size is a power of two between LIMIT_SPAN_MIN and LIMIT_SPAN_MAX, hence a multiple of any
 * page and block size we run on.
 */
#define INDEX_VERSION 1

/* The span size for a tar whose size is not known yet but whose blob has @blob_size bytes. */
uint32_t index_span_size(uint64_t blob_size);

/* --- the table of contents: written by the tar scanner, read by the EROFS writer --- */

/* Appends one entry. -EFBIG past the buffer's maximum, -EINVAL for an entry that breaks a rule. */
int toc_put(struct buf *toc, const struct entry *entry);

/*
 * Walks @len bytes of encoded entries, every field checked (lengths, path rules, offsets within
 * @tar_size, xattr order): whatever wrote them is not trusted.
 */
struct toc_reader;
int toc_reader_new(const void *toc, size_t len, uint64_t nentries, uint64_t tar_size,
		   struct toc_reader **ret);
struct toc_reader *toc_reader_free(struct toc_reader *r);
/* 1 and an entry, 0 after the last one (nothing may be left over), or -EBADMSG with the reason. */
int toc_next(struct toc_reader *r, struct entry *ret, struct err *e);

static inline void toc_reader_freep(struct toc_reader **r)
{
	toc_reader_free(*r);
}

/* --- the whole index --- */

struct index {
	struct digest diff_id;
	uint64_t tar_size;
	uint32_t span_size;
	uint32_t nspans;
	uint64_t nentries;
	const uint8_t *toc; /* borrowed from the bytes that were decoded */
	size_t toc_len;
	const struct digest *digests; /* nspans of them; borrowed likewise */
};

/* Appends the encoded form of @ix to @out. */
int index_encode(const struct index *ix, struct buf *out);

/*
 * Decodes and checks everything but the entries themselves (use toc_reader for those). @data
 * stays owned by the caller and must outlive @ret. @what names the input in errors.
 */
int index_decode(const void *data, size_t len, const char *what, struct index *ret, struct err *e);

static inline uint64_t index_span_start(const struct index *ix, uint32_t span)
{
	return (uint64_t)span * ix->span_size;
}

static inline uint32_t index_span_len(const struct index *ix, uint32_t span)
{
	uint64_t left = ix->tar_size - index_span_start(ix, span);

	return left < ix->span_size ? (uint32_t)left : ix->span_size;
}

#endif
