/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"
#include "oci/index/rules.h"

/*
 * One record of the table of contents, little-endian, unaligned:
 *
 *   type u8, mode u16, uid u32, gid u32, mtime i64, mtime_ns u32, nxattrs u16,
 *   path: length u16, bytes, NUL
 *   symlink, hard link: target: length u16, bytes, NUL
 *   regular file: size u64, tar_offset u64
 *   device: major u32, minor u32
 *   nxattrs times: name length u8, name, NUL, value length u16, value
 *
 * The NULs are there so that a reader can hand out pointers into the record.
 */

struct toc_reader {
	struct bytes in; /* borrowed */
	uint64_t left;   /* entries to come */
	uint64_t number; /* of the entry being read, for errors */
	uint64_t tar_size;
	struct entry_xattr *xattrs; /* owned */
	uint32_t cap;
};

static const char no_memory[] = "out of memory";

static void put_text(struct buf *toc, const char *s)
{
	size_t n = strlen(s);

	buf_put_le16(toc, (uint16_t)n);
	buf_put(toc, s, n + 1);
}

static void put_xattrs(struct buf *toc, const struct entry *entry)
{
	for (uint32_t i = 0; i < entry->nxattrs; i++) {
		const struct entry_xattr *x = &entry->xattrs[i];
		size_t n = strlen(x->name);

		buf_put_u8(toc, (uint8_t)n);
		buf_put(toc, x->name, n + 1);
		buf_put_le16(toc, (uint16_t)x->value_len);
		buf_put(toc, x->value, x->value_len);
	}
}

int toc_put(struct buf *toc, const struct entry *entry)
{
	size_t was = toc->len;

	if (rules_entry(entry, LIMIT_TAR_SIZE))
		return -EINVAL;
	buf_put_u8(toc, (uint8_t)entry->type);
	buf_put_le16(toc, (uint16_t)entry->mode);
	buf_put_le32(toc, entry->uid);
	buf_put_le32(toc, entry->gid);
	buf_put_le64(toc, (uint64_t)entry->mtime);
	buf_put_le32(toc, entry->mtime_ns);
	buf_put_le16(toc, (uint16_t)entry->nxattrs);
	put_text(toc, entry->path);
	if (entry->target)
		put_text(toc, entry->target);
	if (entry->type == ENTRY_REG) {
		buf_put_le64(toc, entry->size);
		buf_put_le64(toc, entry->tar_offset);
	}
	if (entry->type == ENTRY_CHR || entry->type == ENTRY_BLK) {
		buf_put_le32(toc, entry->rdev_major);
		buf_put_le32(toc, entry->rdev_minor);
	}
	put_xattrs(toc, entry);
	if (toc->failed)
		toc->len = was; /* half a record would be worse than none */
	return toc->failed;
}

int toc_reader_new(const void *toc, size_t len, uint64_t nentries, uint64_t tar_size,
		   struct toc_reader **ret)
{
	struct toc_reader *r;

	if (len > LIMIT_TOC || nentries > LIMIT_ENTRIES || tar_size > LIMIT_TAR_SIZE)
		return -EINVAL;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->in = bytes_of(toc, len);
	r->left = nentries;
	r->tar_size = tar_size;
	*ret = r;
	return 0;
}

struct toc_reader *toc_reader_free(struct toc_reader *r)
{
	if (!r)
		return NULL;
	free(r->xattrs);
	free(r);
	return NULL;
}

/* @n bytes of text and their NUL; NULL when they are not there or hold another NUL. */
static const char *take_chars(struct bytes *in, size_t n)
{
	const char *s = bytes_take(in, n + 1);

	return s && strnlen(s, n + 1) == n ? s : NULL;
}

static const char *take_text(struct bytes *in)
{
	return take_chars(in, bytes_le16(in));
}

static const char *take_xattrs(struct toc_reader *r, uint32_t n)
{
	if (n > LIMIT_XATTRS)
		return "there are more than 1024 extended attributes";
	if (n > r->cap) {
		free(r->xattrs);
		r->cap = 0;
		r->xattrs = calloc(n, sizeof(*r->xattrs));
		if (!r->xattrs)
			return no_memory;
		r->cap = n;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct entry_xattr *x = &r->xattrs[i];

		x->name = take_chars(&r->in, bytes_u8(&r->in));
		if (!x->name)
			return "the name of an extended attribute is damaged";
		x->value_len = bytes_le16(&r->in);
		x->value = bytes_take(&r->in, x->value_len);
	}
	return NULL;
}

/* NULL and an entry that may still break a rule, or why there is none. */
static const char *take_entry(struct toc_reader *r, struct entry *entry)
{
	struct bytes *in = &r->in;
	const char *why;

	entry->type = bytes_u8(in);
	entry->mode = bytes_le16(in);
	entry->uid = bytes_le32(in);
	entry->gid = bytes_le32(in);
	entry->mtime = (int64_t)bytes_le64(in);
	entry->mtime_ns = bytes_le32(in);
	entry->nxattrs = bytes_le16(in);
	entry->path = take_text(in);
	if (!entry->path)
		return "the path is damaged";
	if (entry->type == ENTRY_SYMLINK || entry->type == ENTRY_HARDLINK) {
		entry->target = take_text(in);
		if (!entry->target)
			return "the link target is damaged";
	}
	if (entry->type == ENTRY_REG) {
		entry->size = bytes_le64(in);
		entry->tar_offset = bytes_le64(in);
	}
	if (entry->type == ENTRY_CHR || entry->type == ENTRY_BLK) {
		entry->rdev_major = bytes_le32(in);
		entry->rdev_minor = bytes_le32(in);
	}
	why = take_xattrs(r, entry->nxattrs);
	if (why)
		return why;
	entry->xattrs = r->xattrs;
	return bytes_ok(in) ? NULL : "the record is cut short";
}

int toc_next(struct toc_reader *r, struct entry *ret, struct err *e)
{
	struct entry entry = {0};
	const char *why;

	if (r->left == 0 && r->in.left > 0)
		return err_set(e, -EBADMSG, "table of contents: %zu bytes after the last entry",
			       r->in.left);
	if (r->left == 0)
		return 0;
	why = take_entry(r, &entry);
	if (!why)
		why = rules_entry(&entry, r->tar_size);
	if (why)
		return err_set(e, why == no_memory ? -ENOMEM : -EBADMSG,
			       "table of contents: entry %" PRIu64 " '%.200s': %s", r->number,
			       entry.path ? entry.path : "", why);
	r->left--;
	r->number++;
	*ret = entry;
	return 1;
}
