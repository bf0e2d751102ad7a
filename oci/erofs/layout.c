/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/bytes.h"
#include "oci/base/err.h"
#include "oci/erofs/disk.h"
#include "oci/erofs/tree.h"
#include "oci/erofs/xattr.h"

size_t erofs_layout_dir_block(const struct dir *dir, size_t first, uint32_t *ret_used)
{
	uint32_t used = 0;
	size_t i;

	for (i = first; i < dir->n; i++) {
		uint32_t need = (uint32_t)sizeof(struct erofs_dirent) + dir->sorted[i]->len;

		if (used + need > EROFS_BLOCK)
			break;
		used += need;
	}
	*ret_used = used;
	return i;
}

/* Full blocks, and the bytes of the last one. */
static uint64_t dir_size(const struct dir *dir)
{
	uint64_t size = 0;
	uint32_t used = 0;

	for (size_t i = 0; i < dir->n;) {
		size = round_up(size + used, EROFS_BLOCK);
		i = erofs_layout_dir_block(dir, i, &used);
	}
	return size + used;
}

/*
 * A file's data is one chunk, of the smallest power of two that holds it: the kernel merges
 * reads within a chunk, and one index costs 8 bytes. The largest chunk there is has 1 TiB.
 */
static void place_chunks(struct slot *s)
{
	uint64_t blocks = (s->size + EROFS_BLOCK - 1) >> EROFS_BLOCK_BITS;

	s->format = EROFS_CHUNK_BASED;
	while (s->chunk_bits < EROFS_CHUNK_BITS_MAX && (1ull << s->chunk_bits) < blocks)
		s->chunk_bits++;
	s->nchunks = (uint32_t)((blocks + (1ull << s->chunk_bits) - 1) >> s->chunk_bits);
}

/*
 * The inline tail must lie within one block (else the kernel says EUCLEAN): moves the inode on
 * until it does. Not every tail can, for the inode goes in steps of 32: those get a whole block.
 */
static void place_tail(struct slot *s)
{
	uint64_t body = sizeof(struct erofs_inode) + s->xattr_len;
	uint32_t tail = (uint32_t)(s->size % EROFS_BLOCK);

	s->format = EROFS_FLAT_PLAIN;
	s->nblocks = (uint32_t)((s->size + EROFS_BLOCK - 1) >> EROFS_BLOCK_BITS);
	if (tail == 0)
		return;
	for (uint64_t pos = s->pos; pos < s->pos + EROFS_BLOCK; pos += EROFS_NID_SIZE) {
		if ((pos + body) % EROFS_BLOCK + tail > EROFS_BLOCK)
			continue;
		s->pos = pos;
		s->format = EROFS_FLAT_INLINE;
		s->tail = (uint16_t)tail;
		s->nblocks--;
		return;
	}
}

/* Fills in @s, whose pos is the first that is free. Returns where the next inode may start. */
static uint64_t place(const struct node *node, struct slot *s)
{
	uint64_t end;

	s->xattr_len = xattr_body_len(node->xattrs_len, node->opaque);
	s->format = EROFS_FLAT_PLAIN;
	if (S_ISREG(node->mode))
		s->size = node->data.size;
	else if (S_ISLNK(node->mode))
		s->size = node->target_len;
	else if (S_ISDIR(node->mode))
		s->size = dir_size(&node->dir);
	if (S_ISREG(node->mode) && s->size)
		place_chunks(s);
	else if (s->size)
		place_tail(s);
	end = s->pos + sizeof(struct erofs_inode) + s->xattr_len + s->tail;
	if (s->nchunks)
		end = round_up(end, sizeof(struct erofs_chunk_index)) +
		      s->nchunks * sizeof(struct erofs_chunk_index);
	return round_up(end, EROFS_NID_SIZE);
}

int erofs_layout_make(struct erofs_tree *t, struct erofs_layout *ret, struct err *e)
{
	struct erofs_layout l = {.n = t->n};
	uint64_t pos = LAYOUT_FIRST_INODE;
	uint64_t blocks = 0;

	l.slots = calloc(l.n, sizeof(*l.slots));
	if (!l.slots)
		return err_errno(e, -ENOMEM, "%s: cannot lay out the image", t->what);
	for (size_t i = 0; i < l.n; i++) {
		struct slot *s = &l.slots[i];

		s->pos = pos;
		pos = place(t->nodes[i], s);
		t->nodes[i]->nid = s->pos / EROFS_NID_SIZE;
		s->block = (uint32_t)blocks;
		blocks += s->nblocks;
	}
	pos = round_up(pos, EROFS_BLOCK) / EROFS_BLOCK;
	if (pos + blocks >= EROFS_NO_BLOCK) {
		erofs_layout_done(&l);
		return err_set(e, -EFBIG, "%s: the image would have more than 2^32 blocks",
			       t->what);
	}
	l.meta_blocks = (uint32_t)pos;
	l.blocks = (uint32_t)(pos + blocks);
	*ret = l;
	return 0;
}

void erofs_layout_done(struct erofs_layout *l)
{
	free(l->slots);
	*l = (struct erofs_layout){0};
}
