/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_BLOBMAP_DISK_H
#define OCI_INDEX_BLOBMAP_DISK_H

#include <stdint.h>

#include "oci/base/limits.h"

/*
 * Inside oci/index/ only: what the writer and the reader of blob maps agree on.
 *
 * On disk, little-endian, all records of one size, so that a span is found without parsing:
 *
 *   header   magic "TARNMAP\1", version u32, header size u32, blob digest[32], blob size u64,
 *            codec u32, span_size u32, nspans u32, npoints u32, length of the windows u64
 *   points   npoints * 32: in u64, out u64, offset of the window u64, its stored length u32,
 *            its plain length u16, bits u8, member u8
 *   spans    nspans * 12: in_end u64, point u32
 *   windows  zlib streams, in the order of the points, nothing between them
 *   sum      sha256 of everything before it
 */
#define BLOBMAP_MAGIC       "TARNMAP\1"
#define BLOBMAP_MAGIC_SIZE  8
#define BLOBMAP_VERSION     1
#define BLOBMAP_HEADER_SIZE 80
#define BLOBMAP_POINT_SIZE  32
#define BLOBMAP_SPAN_SIZE   12

/* No map can have more spans than the largest tar cut into the smallest spans. */
#define BLOBMAP_SPANS_MAX ((uint32_t)(LIMIT_TAR_SIZE / LIMIT_SPAN_MIN))

struct blobmap_point {
	uint64_t in, out;
	uint64_t window;     /* offset among the windows */
	uint32_t stored_len; /* deflated */
	uint16_t window_len; /* plain */
	uint8_t bits;
	uint8_t member;
};

#endif
