/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_IMAGE_H
#define OCI_EROFS_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "oci/index/index.h"

struct err;

/*
 * Writes the EROFS index image of a layer: metadata only, 512-byte blocks, file data as chunks
 * of device 1, which is the layer's plain tar (disk.h). Rules for the tree: the last
 * of several members with one name wins (a directory over a directory keeps its children, any
 * other replacement drops what was there), missing parents are directories 0755 root:root, a
 * parent that is not a directory is refused, a hard link must name an earlier non-directory
 * member. Whiteouts become character devices 0:0, opaque directories get
 * trusted.overlay.opaque=y; a whiteout never hides what its own layer has under that name, but a
 * directory there is opaque then (tree.h). The same index gives the same bytes.
 *
 * Behind the file system's last block follows our own extent table (struct extent, sorted by
 * tar_off, then a 64-byte footer): which inode's data lies where in the tar. The kernel does not
 * look at it. It rides in the image so that it always belongs to the image that is mounted.
 *
 * @fd is positioned at 0, empty, and written with pwrite/write only; not fsynced.
 */
int erofs_image_write(const struct index *ix, const char *what, int fd, struct err *e);

/*
 * The same without a device, to be mounted alone: for an index of nothing that has data. Its
 * tar_size is 0 (else -EINVAL), its diff_id anything that says what the image is of.
 */
int erofs_image_write_alone(const struct index *ix, const char *what, int fd, struct err *e);

/* A regular file's data in the plain tar. On disk as three little-endian 64-bit words. */
struct extent {
	uint64_t tar_off; /* bytes */
	uint64_t size;    /* bytes, > 0 */
	uint64_t nid;     /* EROFS inode number = st_ino */
};

struct extents {
	struct extent *v; /* owned; sorted by tar_off, not overlapping; distinct nids */
	uint32_t *by_nid; /* owned; the numbers 0 to n - 1 in the order of the nids */
	size_t n;
	uint64_t tar_size;
	struct digest diff_id; /* of the layer the image was made for */
};

/*
 * Reads the extent table of an image we wrote. -EBADMSG when it is not ours or damaged. The
 * result is the caller's to extents_free().
 */
int extents_load(int image_fd, struct extents *ret, struct err *e);
void extents_free(struct extents *x); /* NULL-safe; what @x points to, not @x */
/* First extent that ends after @off (the first that can overlap [off, …)); n when none. */
size_t extents_first(const struct extents *x, uint64_t off);
/* The extent of an inode, or NULL (empty files and directories have none). */
const struct extent *extents_by_nid(const struct extents *x, uint64_t nid);

#endif
