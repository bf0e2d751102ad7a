/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CODEC_CODEC_H
#define OCI_CODEC_CODEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct err;
struct stream;

/* How a layer blob is compressed. The value is stored on disk (oci/index/blobmap.h). */
enum codec_kind {
	CODEC_RAW = 0,
	CODEC_GZIP = 1, /* RFC 1952, any number of members */
	CODEC_ZSTD = 2, /* RFC 8878, any number of frames, skippable ones included */
	CODEC_COUNT
};

/* By the first bytes, whatever the media type claims; needs 6 bytes at most. */
enum codec_kind codec_sniff(const void *head, size_t len);
const char *codec_name(enum codec_kind k);

#define CODEC_WINDOW 32768 /* deflate's history, RFC 1951 */

/*
 * A place in a compressed blob from which decoding can start.
 *   raw:  in == out.
 *   gzip: a deflate block border inside a member (`bits` of the byte at in-1 still belong to the
 *         block that follows; `window` is the history), or a member's first byte (`member`).
 *   zstd: a frame's first byte (`member`).
 */
struct checkpoint {
	uint64_t in;         /* offset in the blob of the first whole byte to read */
	uint64_t out;        /* offset in the plain tar of the first byte that comes out */
	uint8_t bits;        /* 0..7, gzip only */
	bool member;         /* a header starts here: no window, no bits */
	uint32_t window_len; /* <= CODEC_WINDOW */
	uint8_t window[CODEC_WINDOW];
};

/*
 * One forward pass over a compressed stream. The input stream is borrowed; it must start at
 * from->in - (from->bits ? 1 : 0), or at the blob's first byte when @from is NULL. It need not
 * reach the end of the blob: running out of input is an error only when bytes are asked for that
 * would have needed it.
 */
struct decoder;

struct decoder_options {
	bool track;  /* keep the latest checkpoint, for decoder_checkpoint() (index pass) */
	bool verify; /* check members' CRC and length, frames' checksums where they are whole */
};

int decoder_open(enum codec_kind kind, const struct checkpoint *from, struct stream *in,
		 const struct decoder_options *opt, struct decoder **ret, struct err *e);
struct decoder *decoder_free(struct decoder *d);

static inline void decoder_freep(struct decoder **d)
{
	decoder_free(*d);
}

/*
 * Plain bytes: > 0, 0 at the true end (the last member or frame is complete and the input is
 * exhausted), or negative errno: -ENODATA input ended inside a member, -EBADMSG not decodable
 * (garbage after the last member included; zero bytes after gzip are padding). The text says at
 * which input offset.
 */
ssize_t decoder_read(struct decoder *d, void *buf, size_t n, struct err *e);

/*
 * How many bytes of the blob, counted from its first byte, have been consumed for what was
 * returned so far: an upper bound that is sufficient to decode the same output again from any
 * earlier checkpoint.
 */
uint64_t decoder_consumed(const struct decoder *d);

/* With `track`: the last checkpoint at or before the current output position. */
void decoder_checkpoint(const struct decoder *d, struct checkpoint *ret);

#endif
