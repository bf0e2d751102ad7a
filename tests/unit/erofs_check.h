/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_EROFS_CHECK_H
#define TESTS_UNIT_EROFS_CHECK_H

/*
 * A second reader of our images, stricter than the kernel: what it does not know is wrong. It
 * shares disk.h with the writer and nothing else.
 */
#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/erofs/crc32c.h"
#include "oci/erofs/disk.h"

struct check {
	const uint8_t *img; /* borrowed */
	uint64_t len;       /* of the file system, without what follows it */
	uint64_t tar_size;
	uint64_t ninodes;
	uint32_t *links; /* owned; by nid: how many names point there */
	uint8_t *used;   /* owned; by 32 bytes: 1 when they belong to something */
	struct check_dir {
		uint64_t nid, parent;
	} * dirs; /* owned: directories still to be read */
	size_t ndirs, capdirs;
	const char *why; /* the first thing that was wrong */
};

struct check_node {
	struct erofs_inode in;
	uint64_t nid, size, body; /* body: bytes from the inode to where the tail would be */
	unsigned int mode, format;
};

static bool check_that(struct check *c, bool ok, const char *why)
{
	if (!ok && !c->why)
		c->why = why;
	return ok;
}

/* Claims [pos, pos + len): nothing else may lie there. */
static bool check_claim(struct check *c, uint64_t pos, uint64_t len)
{
	if (!check_that(c, len <= c->len && pos <= c->len - len, "something is outside the image"))
		return false;
	for (uint64_t i = pos / 32; len && i <= (pos + len - 1) / 32; i++) {
		if (!check_that(c, !c->used[i], "two things lie in one place"))
			return false;
		c->used[i] = 1;
	}
	return true;
}

static bool check_node(struct check *c, uint64_t nid, struct check_node *ret)
{
	uint64_t pos = nid * EROFS_NID_SIZE;
	unsigned int icount;

	if (!check_that(c, nid < c->len / 32 && pos + sizeof(ret->in) <= c->len,
			"a nid is outside the image"))
		return false;
	memcpy(&ret->in, c->img + pos, sizeof(ret->in));
	ret->nid = nid;
	ret->size = le64toh(ret->in.size);
	ret->mode = le16toh(ret->in.mode);
	ret->format = le16toh(ret->in.format);
	icount = le16toh(ret->in.xattr_icount);
	ret->body = sizeof(ret->in) + (icount ? 12 + 4 * (icount - 1) : 0);
	return check_that(c, icount != 1, "an empty xattr body") &&
	       check_that(c, pos + ret->body <= c->len, "xattrs are outside the image");
}

static void check_xattrs(struct check *c, const struct check_node *n)
{
	uint64_t pos = n->nid * EROFS_NID_SIZE + sizeof(n->in);
	uint64_t end = n->nid * EROFS_NID_SIZE + n->body;
	static const uint8_t zeros[12];

	if (pos == end)
		return;
	check_that(c, memcmp(c->img + pos, zeros, 12) == 0, "xattr header");
	for (pos += 12; pos < end && !c->why;) {
		const uint8_t *p = c->img + pos;
		unsigned int used = 4u + p[0] + p[2] + (p[3] << 8);

		check_that(c, p[1] >= 1 && p[1] <= 6 && p[1] != 5, "xattr name index");
		check_that(c, (p[0] == 0) == (p[1] == 2 || p[1] == 3), "xattr name");
		pos += (used + 3) & ~3u;
		check_that(c, pos <= end, "an xattr goes past the body");
		for (; !c->why && used % 4; used++)
			check_that(c, p[used] == 0, "xattr padding");
	}
}

static void check_chunks(struct check *c, const struct check_node *n)
{
	uint64_t pos = (n->nid * EROFS_NID_SIZE + n->body + 7) & ~7ull;
	unsigned int u = le32toh(n->in.u), bits = u & 31;
	uint64_t chunk = (uint64_t)EROFS_BLOCK << bits;
	uint64_t count = n->size / chunk + (n->size % chunk != 0);
	uint64_t first = 0;

	check_that(c, S_ISREG(n->mode) && n->size > 0 && (u & ~31u) == 0x20, "chunk format");
	check_that(c, bits == 0 || chunk / 2 < n->size, "a chunk is larger than it must be");
	check_that(c, count == 1 || bits == 31, "several chunks where one would do");
	if (c->why ||
	    !check_claim(c, n->nid * EROFS_NID_SIZE, pos + 8 * count - n->nid * EROFS_NID_SIZE))
		return;
	for (uint64_t i = 0; i < count; i++) {
		struct erofs_chunk_index x;
		uint64_t at;

		memcpy(&x, c->img + pos + 8 * i, sizeof(x));
		at = (uint64_t)le32toh(x.block) * EROFS_BLOCK;
		if (i == 0)
			first = at;
		check_that(c, le16toh(x.device_id) == 1 && x.reserved == 0, "chunk index");
		check_that(c, at == first + i * chunk, "the chunks are not in a row");
	}
	check_that(c, first <= c->tar_size && n->size <= c->tar_size - first,
		   "data past the end of the tar");
}

/* Claims what a flat inode has, inline and in whole blocks. */
static void check_flat(struct check *c, const struct check_node *n)
{
	uint64_t pos = n->nid * EROFS_NID_SIZE;
	uint64_t tail = n->format == EROFS_FLAT_INLINE ? n->size % EROFS_BLOCK : 0;
	uint64_t blocks = (n->size - tail + EROFS_BLOCK - 1) / EROFS_BLOCK;

	check_that(c, n->format == EROFS_FLAT_PLAIN || tail > 0, "inline without a tail");
	check_that(c, !S_ISREG(n->mode) || n->size == 0, "a file's data is in the image");
	check_that(c, (pos + n->body) % EROFS_BLOCK + tail <= EROFS_BLOCK || tail == 0,
		   "a tail crosses a block");
	check_claim(c, pos, n->body + tail);
	if (blocks)
		check_claim(c, (uint64_t)le32toh(n->in.u) * EROFS_BLOCK, blocks * EROFS_BLOCK);
	else if (!S_ISCHR(n->mode) && !S_ISBLK(n->mode) && !S_ISFIFO(n->mode))
		check_that(c, le32toh(n->in.u) == EROFS_NO_BLOCK, "a block where there is none");
}

static unsigned int check_type(unsigned int mode)
{
	return S_ISREG(mode)    ? 1
	       : S_ISDIR(mode)  ? 2
	       : S_ISCHR(mode)  ? 3
	       : S_ISBLK(mode)  ? 4
	       : S_ISFIFO(mode) ? 5
	       : S_ISLNK(mode)  ? 7
				: 0;
}

/* A name was found that points to @nid: counts it, and looks at the inode the first time. */
static void check_visit(struct check *c, uint64_t nid, uint64_t parent, unsigned int type)
{
	struct check_node n;

	if (!check_node(c, nid, &n))
		return;
	check_that(c, type == check_type(n.mode), "a dirent's type is not its inode's");
	check_that(c, c->links[nid] == 0 || !S_ISDIR(n.mode), "a directory has two names");
	if (c->why || c->links[nid]++)
		return;
	c->ninodes++;
	check_xattrs(c, &n);
	check_that(c, le32toh(n.in.mtime_nsec) < 1000000000, "nanoseconds");
	check_that(c, !S_ISLNK(n.mode) || n.size > 0, "an empty symbolic link");
	if (n.format == EROFS_CHUNK_BASED)
		check_chunks(c, &n);
	else
		check_flat(c, &n);
	if (!S_ISDIR(n.mode) || c->why)
		return;
	if (c->ndirs == c->capdirs) {
		c->capdirs = c->capdirs ? 2 * c->capdirs : 64;
		c->dirs = realloc(c->dirs, c->capdirs * sizeof(*c->dirs));
		if (!c->dirs)
			abort();
	}
	c->dirs[c->ndirs++] = (struct check_dir){.nid = nid, .parent = parent};
}

struct check_names {
	const uint8_t *last; /* the name before, NULL at first */
	size_t last_len;
	bool dot, dotdot;
	unsigned int subdirs;
};

static void check_name(struct check *c, const struct check_dir *d, struct check_names *s,
		       const uint8_t *name, size_t len, const struct erofs_dirent *e)
{
	uint64_t nid = le64toh(e->nid);
	size_t min = len < s->last_len ? len : s->last_len;
	int r = s->last ? memcmp(s->last, name, min) : -1;

	check_that(c, len > 0 && len <= 255, "a name's length");
	check_that(c, r < 0 || (r == 0 && s->last_len < len), "names are not sorted");
	check_that(c, !memchr(name, 0, len) && !memchr(name, '/', len), "a name's bytes");
	check_that(c, e->reserved == 0, "a dirent's reserved byte");
	s->last = name;
	s->last_len = len;
	if (len == 1 && name[0] == '.') {
		s->dot = check_that(c, nid == d->nid, "'.' is another directory");
	} else if (len == 2 && name[0] == '.' && name[1] == '.') {
		s->dotdot = check_that(c, nid == d->parent, "'..' is another directory");
	} else {
		s->subdirs += e->file_type == EROFS_FT_DIR;
		check_visit(c, nid, d->nid, e->file_type);
	}
}

static void check_block(struct check *c, const struct check_dir *d, struct check_names *s,
			const uint8_t *p, size_t len)
{
	struct erofs_dirent e, next;
	size_t n, from, to;

	if (!check_that(c, len >= sizeof(e), "a directory block without names"))
		return;
	memcpy(&e, p, sizeof(e));
	n = le16toh(e.nameoff) / sizeof(e);
	if (!check_that(c, n > 0 && le16toh(e.nameoff) == n * sizeof(e) && n * sizeof(e) < len,
			"the first name's offset"))
		return;
	for (size_t i = 0; i < n && !c->why; i++) {
		memcpy(&e, p + i * sizeof(e), sizeof(e));
		from = le16toh(e.nameoff);
		if (i + 1 < n)
			memcpy(&next, p + (i + 1) * sizeof(e), sizeof(e));
		to = i + 1 < n ? le16toh(next.nameoff)
			       : from + strnlen((const char *)p + from, len - from);
		if (check_that(c, from < to && to <= len, "a name's offset"))
			check_name(c, d, s, p + from, to - from, &e);
		for (size_t j = to; i + 1 == n && j < len; j++)
			check_that(c, p[j] == 0, "something behind the last name");
	}
}

static void check_dir(struct check *c, const struct check_dir *d)
{
	struct check_names s = {0};
	struct check_node n;
	uint64_t pos;

	if (!check_node(c, d->nid, &n))
		return;
	pos = (uint64_t)le32toh(n.in.u) * EROFS_BLOCK;
	for (uint64_t off = 0; off < n.size && !c->why; off += EROFS_BLOCK) {
		bool last = n.size - off <= EROFS_BLOCK;
		size_t len = last ? (size_t)(n.size - off) : EROFS_BLOCK;
		uint64_t at = pos + off;

		if (last && n.format == EROFS_FLAT_INLINE)
			at = n.nid * EROFS_NID_SIZE + n.body;
		check_block(c, d, &s, c->img + at, len);
	}
	check_that(c, s.dot && s.dotdot, "no dots");
	check_that(c, le32toh(n.in.nlink) == 2 + s.subdirs, "a directory's link count");
}

static void check_super(struct check *c, struct erofs_super *sb, size_t len)
{
	uint8_t sum[EROFS_BLOCK];

	if (!check_that(c, len >= 1536, "too short"))
		return;
	memcpy(sb, c->img + EROFS_SUPER_OFFSET, sizeof(*sb));
	memcpy(sum, c->img + EROFS_SUPER_OFFSET, sizeof(sum));
	memset(sum + offsetof(struct erofs_super, checksum), 0, 4);
	c->len = (uint64_t)le32toh(sb->blocks) * EROFS_BLOCK;
	check_that(c, le32toh(sb->magic) == EROFS_MAGIC, "magic");
	check_that(c, le32toh(sb->checksum) == crc32c(CRC32C_INIT, sum, sizeof(sum)), "checksum");
	check_that(c, sb->blkszbits == 9 && sb->dirblkbits == 0, "block size");
	check_that(c, le32toh(sb->feature_incompat) == 0xc, "features");
	check_that(c, le16toh(sb->extra_devices) == 1 && le16toh(sb->devt_slotoff) == 9, "device");
	check_that(c, c->len <= len, "fewer blocks than it says");
	check_that(c, sb->volume_name[15] == 0, "volume name");
}

/* NULL, or what is wrong with the image of a layer whose tar has @tar_size bytes. */
static inline const char *erofs_check(const uint8_t *img, size_t len, uint64_t tar_size)
{
	struct check c = {.img = img, .tar_size = tar_size};
	struct erofs_super sb = {0};

	check_super(&c, &sb, len);
	if (c.why)
		return c.why;
	c.links = calloc(c.len / 32, sizeof(*c.links));
	c.used = calloc(c.len / 32, 1);
	if (!c.links || !c.used)
		abort();
	check_claim(&c, 0, 1280);
	check_visit(&c, le16toh(sb.root_nid), le16toh(sb.root_nid), EROFS_FT_DIR);
	for (size_t i = 0; i < c.ndirs && !c.why; i++) {
		struct check_dir d = c.dirs[i]; /* the array may move while it is read */

		check_dir(&c, &d);
	}
	check_that(&c, c.ninodes == le64toh(sb.inos), "the number of inodes");
	for (uint64_t nid = 0; nid < c.len / 32 && !c.why; nid++) {
		struct check_node n;

		if (c.links[nid] && check_node(&c, nid, &n) && !S_ISDIR(n.mode))
			check_that(&c, le32toh(n.in.nlink) == c.links[nid], "a link count");
	}
	free(c.links);
	free(c.used);
	free(c.dirs);
	return c.why;
}

#endif
