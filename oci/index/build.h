/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_BUILD_H
#define OCI_INDEX_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/codec/codec.h"

struct buf;
struct err;
struct stream;

/*
 * One pass over a layer's compressed stream: decodes it, hands the plain tar out span by span,
 * scans the tar (libarchive) and maps the spans back to the blob. It runs where hostile bytes may
 * be parsed; it computes the blob's digest, but the spans' digests and the diff_id are computed
 * by whoever receives the spans.
 */
struct build_input {
	struct stream *blob;       /* borrowed: the blob from its first byte to its end */
	const char *what;          /* names the layer in errors */
	uint64_t blob_size;        /* from the descriptor; a longer or shorter blob is an error */
	struct digest blob_digest; /* from the descriptor; must be met */
	uint32_t span_size;
	/*
	 * Receives each span in order; @len is span_size except for the last one. The bytes are
	 * valid during the call. Non-zero stops the pass with that code (the callee words @e).
	 */
	int (*span)(void *ctx, uint32_t span, const void *data, size_t len, struct err *e);
	void *ctx;
};

struct build_result {
	uint64_t tar_size; /* every byte up to the end of the stream, padding included */
	uint32_t nspans;
	uint64_t nentries;
};

/*
 * Appends the table of contents to @toc and the encoded blob map to @map. -EBADMSG with the
 * reason and the entry's name for a tar or blob that breaks a rule.
 */
int build_index(const struct build_input *in, struct buf *toc, struct buf *map,
		struct build_result *ret, struct err *e);

#endif
