/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_EXTENTS_H
#define OCI_EROFS_EXTENTS_H

#include <stddef.h>
#include <stdint.h>

#include "oci/erofs/image.h"

struct out;
struct erofs_tree;

/*
 * The writer's half of the extent table (the reader's is in image.h). On disk, little-endian,
 * behind the last block of the file system:
 *
 *   n * 24   tar_off, size, nid; sorted by tar_off, not overlapping
 *   64       footer: magic "TARNEXT\1", n, tar_size, diff_id[32], u32 reserved, u32 crc32c of
 *            all that comes before it, the entries included
 */
#define EXTENT_SIZE        24
#define EXTENT_FOOTER_SIZE 64

/*
 * The extents of a tree whose nids are set. -EBADMSG, naming two entries, when their data
 * overlaps: no tar does that, and whoever evicts relies on it. @ret is the caller's to free().
 */
int extents_of_tree(const struct erofs_tree *t, struct extent **ret, size_t *ret_n, struct err *e);
/* Writes table and footer. 0 or -errno; failures to write stay in @o. */
int extents_put(struct out *o, const struct extent *v, size_t n, const struct index *ix);

#endif
