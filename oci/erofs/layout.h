/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_LAYOUT_H
#define OCI_EROFS_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

struct dir;
struct err;
struct node;
struct erofs_tree;

/*
 * Where everything goes. The image is, in blocks of 512 bytes:
 *
 *   0      1024 bytes that belong to nobody (boot code, in a file system on a disk)
 *   1024   superblock, 128 bytes
 *   1152   device slot, 128 bytes: the layer's tar
 *   1280   inodes in the order of the tree, the root first, each at a multiple of 32: inode,
 *          xattr body, then chunk indexes or the inline tail
 *   ...    whole blocks of directories and of symbolic links, in the same order
 *   ...    our extent table, which the kernel does not know about
 *
 * Pure computation: nothing here reads or writes a file.
 */
#define LAYOUT_FIRST_INODE 1280

struct slot {
	uint64_t pos;       /* bytes from the start of the image */
	uint32_t xattr_len; /* bytes of the xattr body, header included; 0: none */
	uint32_t block;     /* the first of its whole blocks, counted from layout.meta_blocks */
	uint32_t nblocks;   /* whole blocks, the last of them perhaps not full */
	uint16_t tail;      /* bytes inline, behind the xattrs */
	uint8_t format;     /* EROFS_FLAT_PLAIN, EROFS_FLAT_INLINE or EROFS_CHUNK_BASED */
	uint8_t chunk_bits; /* log2(blocks in a chunk) */
	uint32_t nchunks;
	uint64_t size; /* i_size */
};

struct erofs_layout {
	struct slot *slots; /* owned; slots[i] is of tree->nodes[i] */
	size_t n;
	uint32_t meta_blocks; /* up to the end of the inodes */
	uint32_t blocks;      /* of the whole file system */
};

/* Places every node of a finished tree and sets their nids. -EFBIG when it does not fit. */
int erofs_layout_make(struct erofs_tree *t, struct erofs_layout *ret, struct err *e);
void erofs_layout_done(struct erofs_layout *l);

/* The first name of @dir from @first on that no longer goes into a block with @first. */
size_t erofs_layout_dir_block(const struct dir *dir, size_t first, uint32_t *ret_used);

#endif
