/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/image.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/erofs/crc32c.h"
#include "oci/erofs/disk.h"
#include "oci/erofs/extents.h"
#include "oci/erofs/layout.h"
#include "oci/erofs/out.h"
#include "oci/erofs/tree.h"
#include "oci/erofs/xattr.h"

/* The one device of the image: the first device= of the mount. */
#define TAR_DEVICE 1

/* What there is to write, made before the first byte of it. */
struct image {
	const struct index *ix;  /* borrowed */
	bool alone;              /* without a device: there is no tar */
	struct erofs_tree *tree; /* owned */
	struct erofs_layout layout;
	struct extent *extents; /* owned */
	size_t nextents;
};

static void put_super(struct out *o, const struct image *im)
{
	const struct index *ix = im->ix;
	struct erofs_super sb = {
		.magic = htole32(EROFS_MAGIC),
		.feature_compat = htole32(EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME),
		.blkszbits = EROFS_BLOCK_BITS,
		.root_nid = htole16((uint16_t)im->tree->nodes[0]->nid),
		.inos = htole64(im->tree->n),
		.blocks = htole32(im->layout.blocks),
		.volume_name = "tarn",
	};
	/* Only statfs(2) looks at this number. */
	struct erofs_device dev = {
		.blocks = htole32((uint32_t)((ix->tar_size + EROFS_BLOCK - 1) / EROFS_BLOCK)),
	};

	/* The kernel wants as many device= options as there are devices here. */
	if (!im->alone) {
		sb.feature_incompat =
			htole32(EROFS_INCOMPAT_CHUNKED_FILE | EROFS_INCOMPAT_DEVICE_TABLE);
		sb.extra_devices = htole16(1);
		sb.devt_slotoff = htole16((EROFS_SUPER_OFFSET + sizeof(sb)) / EROFS_DEVICE_UNIT);
	}
	/* Which layer it is, for people with a mounted image and no other clue. */
	memcpy(sb.uuid, ix->diff_id.sum, sizeof(sb.uuid));
	out_zeros_to(o, EROFS_SUPER_OFFSET);
	out_put(o, &sb, sizeof(sb));
	out_put(o, &dev, sizeof(dev));
}

static uint8_t file_type(const struct node *node)
{
	switch (node->mode & S_IFMT) {
	case S_IFREG:
		return EROFS_FT_REG;
	case S_IFDIR:
		return EROFS_FT_DIR;
	case S_IFLNK:
		return EROFS_FT_LNK;
	case S_IFCHR:
		return EROFS_FT_CHR;
	case S_IFBLK:
		return EROFS_FT_BLK;
	default:
		return EROFS_FT_FIFO;
	}
}

/*
 * The names [first, end) of a directory as they lie in one block: an array of entries, then the
 * names. The first entry's name offset tells how many entries there are.
 */
static void put_dir_block(struct out *o, const struct dir *dir, size_t first, size_t end)
{
	size_t nameoff = (end - first) * sizeof(struct erofs_dirent);

	for (size_t i = first; i < end; i++) {
		const struct name *name = dir->sorted[i];
		struct erofs_dirent d = {
			.nid = htole64(name->node->nid),
			.nameoff = htole16((uint16_t)nameoff),
			.file_type = file_type(name->node),
		};

		out_put(o, &d, sizeof(d));
		nameoff += name->len;
	}
	for (size_t i = first; i < end; i++)
		out_put(o, dir->sorted[i]->text, dir->sorted[i]->len);
}

/* Where a directory's inline tail starts: behind as many names as its whole blocks hold. */
static size_t dir_tail_start(const struct dir *dir, uint32_t nblocks)
{
	uint32_t used;
	size_t i = 0;

	while (nblocks--)
		i = erofs_layout_dir_block(dir, i, &used);
	return i;
}

static void put_tail(struct out *o, const struct node *node, const struct slot *s)
{
	if (S_ISLNK(node->mode))
		out_put(o, node->target + s->size - s->tail, s->tail);
	else
		put_dir_block(o, &node->dir, dir_tail_start(&node->dir, s->nblocks), node->dir.n);
}

static void put_xattrs(struct out *o, const struct node *node, const struct slot *s)
{
	static const struct erofs_xattr_body head;

	if (s->xattr_len == 0)
		return;
	out_put(o, &head, sizeof(head));
	if (node->opaque)
		out_put(o, xattr_opaque, xattr_opaque_len);
	out_put(o, node->xattrs, node->xattrs_len);
}

static void put_chunks(struct out *o, const struct node *node, const struct slot *s)
{
	uint64_t block = node->data.tar_off >> EROFS_BLOCK_BITS;

	out_zeros_to(o, round_up(out_pos(o), sizeof(struct erofs_chunk_index)));
	for (uint32_t i = 0; i < s->nchunks; i++) {
		struct erofs_chunk_index c = {
			.device_id = htole16(TAR_DEVICE),
			.block = htole32((uint32_t)(block + ((uint64_t)i << s->chunk_bits))),
		};

		out_put(o, &c, sizeof(c));
	}
}

/* What the i_u field says, which depends on the kind of inode. */
static uint32_t inode_u(const struct node *node, const struct slot *s, const struct erofs_layout *l)
{
	if (s->format == EROFS_CHUNK_BASED)
		return s->chunk_bits | EROFS_CHUNK_INDEXES;
	if (S_ISCHR(node->mode) || S_ISBLK(node->mode))
		return node->rdev;
	if (S_ISFIFO(node->mode))
		return 0;
	return s->nblocks ? l->meta_blocks + s->block : EROFS_NO_BLOCK;
}

static void put_inode(struct out *o, const struct node *node, const struct slot *s,
		      const struct erofs_layout *l)
{
	struct erofs_inode in = {
		.format = htole16(s->format),
		.mode = htole16(node->mode),
		.size = htole64(s->size),
		.u = htole32(inode_u(node, s, l)),
		.ino = htole32((uint32_t)node->nid),
		.uid = htole32(node->uid),
		.gid = htole32(node->gid),
		.mtime = htole64((uint64_t)node->mtime),
		.mtime_nsec = htole32(node->mtime_ns),
		.nlink = htole32(node->nlink),
	};

	if (s->xattr_len)
		in.xattr_icount = htole16(
			(uint16_t)(1 + (s->xattr_len - sizeof(struct erofs_xattr_body)) / 4));
	out_zeros_to(o, s->pos);
	out_put(o, &in, sizeof(in));
	put_xattrs(o, node, s);
	if (s->nchunks)
		put_chunks(o, node, s);
	else if (s->tail)
		put_tail(o, node, s);
}

/* The blocks that did not go inline. */
static void put_blocks(struct out *o, const struct node *node, const struct slot *s,
		       const struct erofs_layout *l)
{
	uint64_t pos = ((uint64_t)l->meta_blocks + s->block) * EROFS_BLOCK;
	size_t i = 0;

	out_zeros_to(o, pos);
	if (S_ISLNK(node->mode)) {
		out_put(o, node->target, s->size - s->tail);
		return;
	}
	for (uint32_t b = 0; b < s->nblocks; b++) {
		uint32_t used;
		size_t end = erofs_layout_dir_block(&node->dir, i, &used);

		out_zeros_to(o, pos + (uint64_t)b * EROFS_BLOCK);
		put_dir_block(o, &node->dir, i, end);
		i = end;
	}
}

/* The checksum covers the root's inode too, so it is known only when that has been written. */
static int write_checksum(const struct out *o, int fd)
{
	const uint8_t *start = o->head + EROFS_SUPER_OFFSET;
	uint32_t crc = htole32(crc32c(CRC32C_INIT, start, EROFS_BLOCK));

	return fd_pwrite_full(fd, &crc, sizeof(crc),
			      EROFS_SUPER_OFFSET + offsetof(struct erofs_super, checksum));
}

static_assert(EROFS_SUPER_OFFSET + EROFS_BLOCK <= OUT_HEAD, "the head has what is summed");

static int image_put(struct out *o, const struct image *im)
{
	const struct erofs_layout *l = &im->layout;
	const struct erofs_tree *t = im->tree;
	int r;

	put_super(o, im);
	for (size_t i = 0; i < t->n; i++)
		put_inode(o, t->nodes[i], &l->slots[i], l);
	for (size_t i = 0; i < t->n; i++)
		if (l->slots[i].nblocks)
			put_blocks(o, t->nodes[i], &l->slots[i], l);
	out_zeros_to(o, (uint64_t)l->blocks * EROFS_BLOCK);
	r = extents_put(o, im->extents, im->nextents, im->ix);
	return r < 0 ? r : out_flush(o);
}

static int image_write(const struct image *im, int fd)
{
	struct out o;
	int r = out_init(&o, fd);

	if (r < 0)
		return r;
	r = image_put(&o, im);
	if (r == 0)
		r = write_checksum(&o, fd);
	out_done(&o);
	return r;
}

static int image_make(struct image *im, const char *what, struct err *e)
{
	int r;

	/* 2^32 block numbers, of which the last means "hole". */
	if (im->ix->tar_size > LIMIT_TAR_SIZE - EROFS_BLOCK)
		return err_set(e, -EFBIG, "%s: a layer of 2 TiB or more", what);
	r = erofs_tree_of_index(im->ix, what, &im->tree, e);
	if (r == 0)
		r = erofs_layout_make(im->tree, &im->layout, e);
	if (r == 0)
		r = extents_of_tree(im->tree, &im->extents, &im->nextents, e);
	return r;
}

static int make_and_write(struct image *im, const char *what, int fd, struct err *e)
{
	int r;

	r = image_make(im, what, e);
	if (r == 0) {
		r = image_write(im, fd);
		if (r < 0)
			err_errno(e, r, "%s: cannot write the image", what);
	}
	free(im->extents);
	erofs_layout_done(&im->layout);
	erofs_tree_free(im->tree);
	return r;
}

int erofs_image_write(const struct index *ix, const char *what, int fd, struct err *e)
{
	struct image im = {.ix = ix};

	return make_and_write(&im, what, fd, e);
}

int erofs_image_write_alone(const struct index *ix, const char *what, int fd, struct err *e)
{
	struct image im = {.ix = ix, .alone = true};

	if (ix->tar_size)
		return err_set(e, -EINVAL, "%s: an image without a tar, but with data", what);
	return make_and_write(&im, what, fd, e);
}
