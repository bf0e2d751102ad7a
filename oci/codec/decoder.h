/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CODEC_DECODER_H
#define OCI_CODEC_DECODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/codec/codec.h"

/* Inside oci/codec/ only: what the three decoders have in common. */

/* One read from the input stream; also what zlib and zstd get to see at once. */
#define DECODER_INPUT (64u << 10)

struct decoder {
	const struct decoder_ops *ops;
	struct decoder_options opt;
	struct stream *in; /* borrowed */
	uint8_t *buf;      /* owned; DECODER_INPUT bytes, NULL for raw */
	size_t pos, len;   /* what is left of buf: [pos, len) */
	uint64_t end;      /* blob offset of buf[len]: all that was read from the stream */
	bool eof;          /* the stream has ended */
	uint64_t out;      /* offset in the plain tar of the next byte that comes out */
	void *state;       /* owned; the library's object and what goes with it */
};

struct decoder_ops {
	const char *name;
	/* Makes d->state; d->end and d->out are set. @from is NULL at the blob's start. */
	int (*open)(struct decoder *d, const struct checkpoint *from, struct err *e);
	/* As decoder_read(), without counting d->out. */
	ssize_t (*read)(struct decoder *d, void *buf, size_t n, struct err *e);
	uint64_t (*consumed)(const struct decoder *d); /* NULL: what was taken from buf */
	void (*checkpoint)(const struct decoder *d, struct checkpoint *ret);
	void (*free)(struct decoder *d); /* half-built states too */
};

extern const struct decoder_ops decoder_raw;
extern const struct decoder_ops decoder_gzip;
extern const struct decoder_ops decoder_zstd;
#ifdef TARN_ISAL
extern const struct decoder_ops decoder_gzip_isal; /* from a checkpoint and without `track` */
#endif

/* Blob offset of the next byte that is not consumed yet. */
static inline uint64_t decoder_pos(const struct decoder *d)
{
	return d->end - (d->len - d->pos);
}

static inline size_t decoder_left(const struct decoder *d)
{
	return d->len - d->pos;
}

/*
 * Reads from the stream until at least @want (<= DECODER_INPUT) bytes are in the buffer or the
 * stream has ended. Returns how many there are, or a negative errno.
 */
ssize_t decoder_fill(struct decoder *d, size_t want, struct err *e);

/* Error texts name the blob offset, so that a report can be checked with dd and gzip. */
int decoder_bad(const struct decoder *d, const char *why, struct err *e);     /* -EBADMSG */
int decoder_short(const struct decoder *d, const char *where, struct err *e); /* -ENODATA */

#endif
