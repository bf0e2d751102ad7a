/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_BLOBMAP_H
#define OCI_INDEX_BLOBMAP_H

#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/codec/codec.h"

struct buf;
struct err;

/*
 * How one compressed blob yields the spans of a layer. On disk (`blob-<digest>.map`),
 * little-endian: header (magic, version, blob digest, blob size, codec, span_size, nspans,
 * npoints), the points (in, out, bits, member, window offset and length), per span its point
 * and the end of its input, the windows (each deflated on its own by zlib), sha256 of it all.
 *
 * To get span i: read the blob from its point's start to `in_end`, decode from the point, drop
 * what comes before the span. Neighbouring spans that share a point (a single-frame zstd blob
 * has just one) are decoded in one run.
 */
struct blobmap;

struct blobmap_span {
	uint32_t point;  /* index of the checkpoint to start from */
	uint64_t in_end; /* input bytes [start of point, in_end) are enough to decode the span */
};

/* --- made during the index pass, span by span --- */
struct blobmap_builder;
int blobmap_builder_new(enum codec_kind codec, uint32_t span_size, struct blobmap_builder **ret);
struct blobmap_builder *blobmap_builder_free(struct blobmap_builder *b);
/* The next span starts at output offset cp->out or after it. A point equal to the last is shared.
 */
int blobmap_builder_add(struct blobmap_builder *b, const struct checkpoint *cp, uint64_t in_end);
int blobmap_builder_encode(struct blobmap_builder *b, const struct digest *blob, uint64_t blob_size,
			   struct buf *out);

static inline void blobmap_builder_freep(struct blobmap_builder **b)
{
	blobmap_builder_free(*b);
}

/* --- read on every fetch --- */
/* @data is borrowed and must outlive the map. Every field is checked. */
int blobmap_decode(const void *data, size_t len, const char *what, struct blobmap **ret,
		   struct err *e);
struct blobmap *blobmap_free(struct blobmap *m);
enum codec_kind blobmap_codec(const struct blobmap *m);
const struct digest *blobmap_digest(const struct blobmap *m);
uint64_t blobmap_blob_size(const struct blobmap *m);
uint32_t blobmap_nspans(const struct blobmap *m);
uint32_t blobmap_span_size(const struct blobmap *m);
struct blobmap_span blobmap_span(const struct blobmap *m, uint32_t span);
/* Inflates the point's window into @ret. -EBADMSG when it is damaged. */
int blobmap_checkpoint(const struct blobmap *m, uint32_t point, struct checkpoint *ret);
/* Without the window: where its input starts (in, or in - 1 when bits are left), where output. */
uint64_t blobmap_point_in(const struct blobmap *m, uint32_t point);
uint64_t blobmap_point_out(const struct blobmap *m, uint32_t point);

static inline void blobmap_freep(struct blobmap **m)
{
	blobmap_free(*m);
}

#endif
