/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/tarscan.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/entry.h"
#include "oci/index/rules.h"
#include "oci/index/tarhead.h"
#include "oci/index/index.h"
#include "oci/stream.h"

/* What libarchive gets to see at once. Larger gains nothing and leaves the L2 cache. */
#define BLOCK_SIZE (256u << 10)

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh."
#define OPAQUE        ".wh..wh..opq"

static const char no_memory[] = "out of memory";

struct scan {
	struct stream *tar; /* borrowed */
	const char *what;   /* borrowed */
	struct buf *toc;    /* borrowed */
	struct archive *a;  /* owned */
	uint8_t *block;     /* owned; BLOCK_SIZE */
	size_t block_len;
	uint64_t block_end; /* tar offset of the end of what is in block */

	/* The raw headers of the member that is being read, where they leave the block. */
	bool in_header;
	uint64_t header_start;
	struct buf header;

	/* Where the last member's data must have ended: the next header starts there. */
	bool in_member;
	uint64_t data_end;
	char last_path[LIMIT_PATH];

	char path[LIMIT_PATH];
	char target[LIMIT_PATH];
	struct entry_xattr *xattrs; /* owned */
	uint32_t xattrs_cap;
	uint64_t nentries;

	int stream_code; /* the stream's failure, which libarchive cannot word */
	struct err stream_err;
};

static void scan_free(struct scan *s)
{
	archive_read_free(s->a);
	buf_free(&s->header);
	free(s->xattrs);
	free(s->block);
	free(s);
}

DEFINE_CLEANUP(struct scan, scan_free)

/* --- the tar's bytes, in and out of libarchive --- */

/* The part of the current member's headers that is in the block goes to s->header. */
static int keep_header(struct scan *s, uint64_t end)
{
	uint64_t block_start = s->block_end - s->block_len;
	uint64_t from = s->header_start + s->header.len;

	if (from < block_start || from > end)
		return 0;
	return buf_put(&s->header, s->block + (from - block_start), (size_t)(end - from));
}

/* Whole blocks, however little a read brings: a 512-byte record then never lies across two. */
static ssize_t fill_block(struct scan *s)
{
	size_t len = 0;
	ssize_t r;

	while (len < BLOCK_SIZE) {
		r = stream_read(s->tar, s->block + len, BLOCK_SIZE - len, &s->stream_err);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		len += (size_t)r;
	}
	return (ssize_t)len;
}

static la_ssize_t next_block(struct archive *a, void *ctx, const void **ret)
{
	struct scan *s = ctx;
	ssize_t r = 0;

	if (s->in_header)
		r = keep_header(s, s->block_end);
	if (r < 0)
		r = err_set(&s->stream_err, (int)r, "%s: the headers of one member are too large",
			    s->what);
	else
		r = fill_block(s);
	if (r < 0) {
		s->stream_code = (int)r;
		archive_set_error(a, EIO, "read error");
		return ARCHIVE_FATAL;
	}
	s->block_len = (size_t)r;
	s->block_end += (uint64_t)r;
	if (s->block_end > LIMIT_TAR_SIZE) {
		s->stream_code = err_set(&s->stream_err, -EBADMSG,
					 "%s: the tar is larger than 2 TiB", s->what);
		archive_set_error(a, EIO, "read error");
		return ARCHIVE_FATAL;
	}
	*ret = s->block;
	return r;
}

/* The failure of a call into libarchive. @path names the member where that is known. */
static int archive_failed(struct scan *s, const char *path, struct err *e)
{
	const char *why = archive_error_string(s->a);

	if (s->stream_code)
		return err_set(e, s->stream_code, "%s", s->stream_err.text);
	if (archive_errno(s->a) == ENOMEM)
		return err_set(e, -ENOMEM, "%s: out of memory", s->what);
	why = why ? why : "not a tar";
	if (path)
		return err_set(e, -EBADMSG, "%s: '%.200s': %s", s->what, path, why);
	return err_set(e, -EBADMSG, "%s: the tar is damaged near byte %" PRIu64 ": %s", s->what,
		       (uint64_t)archive_filter_bytes(s->a, 0), why);
}

static int refuse(const struct scan *s, const char *path, const char *why, struct err *e)
{
	return err_set(e, -EBADMSG, "%s: '%.200s': %s", s->what, path ? path : "", why);
}

/* 1: a tar, 0: there is not a single byte. */
static int open_archive(struct scan *s, struct err *e)
{
	s->a = archive_read_new();
	s->block = malloc(BLOCK_SIZE);
	if (!s->a || !s->block)
		return err_set(e, -ENOMEM, "%s: out of memory", s->what);
	if (archive_read_support_format_tar(s->a) != ARCHIVE_OK)
		return archive_failed(s, NULL, e);
	if (archive_read_open(s->a, s, NULL, next_block, NULL) == ARCHIVE_OK)
		return 1;
	if (s->stream_code || archive_errno(s->a) == ENOMEM)
		return archive_failed(s, NULL, e);
	if (s->block_end > 0)
		return err_set(e, -EBADMSG, "%s: this is no tar", s->what);
	return 0; /* not even an end marker: libarchive knows no format by nothing */
}

/* The rest of the stream, behind the end-of-archive marker. */
static int drain(struct scan *s, struct err *e)
{
	const void *p;

	s->in_header = false;
	while (!s->stream_code) {
		la_ssize_t r = next_block(s->a, s, &p);

		if (r == 0)
			return 0;
	}
	return archive_failed(s, NULL, e);
}

/* --- names --- */

/*
 * Leaves out "/" at both ends, empty components and "."; the root is "". Everything else is for
 * rules_path() to judge.
 */
static const char *normalise(const char *in, char out[LIMIT_PATH])
{
	size_t len = 0;

	for (;;) {
		size_t n;

		in += strspn(in, "/");
		n = strcspn(in, "/");
		if (n == 0)
			break;
		if (!(n == 1 && in[0] == '.')) {
			if (len + (len > 0) + n >= LIMIT_PATH)
				return "the path is longer than 4095 bytes";
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, in, n);
			len += n;
		}
		in += n;
	}
	out[len] = '\0';
	return rules_path(out);
}

static bool has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static char *basename_of(char *path)
{
	char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Whether @path lies in one of AUFS's own directories (".wh..wh.plnk" and such). */
static bool below_meta(const char *path)
{
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (has_prefix(p, WHITEOUT_META) && strchr(p, '/'))
			return true;
	}
	return false;
}

/*
 * Turns a whiteout's name into what it hides. 1: @entry is a whiteout now, 0: it is none, or -1:
 * there is nothing to show at all. A refusal goes to *@why.
 */
static int whiteout(struct scan *s, struct entry *entry, const char **why)
{
	char *name = basename_of(s->path);

	if (below_meta(s->path))
		return -1;
	if (!has_prefix(name, WHITEOUT))
		return 0;
	if (strcmp(name, OPAQUE) == 0) {
		entry->type = ENTRY_OPAQUE;
		name[0] = '\0';
		if (name > s->path)
			name[-1] = '\0';
		return 1;
	}
	if (has_prefix(name, WHITEOUT_META))
		return -1;
	entry->type = ENTRY_WHITEOUT;
	memmove(name, name + strlen(WHITEOUT), strlen(name) - strlen(WHITEOUT) + 1);
	*why = name[0] ? rules_path(s->path) : "a whiteout without a name";
	return 1;
}

/* --- one member --- */

static int compare_xattrs(const void *a, const void *b)
{
	const struct entry_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/*
 * libarchive hands them out last first; of two with one name the later counts, as everywhere.
 * (SCHILY.acl.* become ACL entries in libarchive and are left alone: no image tool applies them.
 * Images carry ACLs as SCHILY.xattr.system.posix_acl_*.)
 */
static const char *take_xattrs(struct scan *s, struct archive_entry *ae, struct entry *entry)
{
	int count = archive_entry_xattr_reset(ae);
	uint32_t n = 0, kept = 0;
	const void *value;
	const char *name;
	size_t len;

	if (count > LIMIT_XATTRS)
		return "it has more than 1024 extended attributes";
	if ((uint32_t)count > s->xattrs_cap) {
		free(s->xattrs);
		s->xattrs = calloc((size_t)count, sizeof(*s->xattrs));
		s->xattrs_cap = s->xattrs ? (uint32_t)count : 0;
		if (!s->xattrs)
			return no_memory;
	}
	while (n < (uint32_t)count &&
	       archive_entry_xattr_next(ae, &name, &value, &len) == ARCHIVE_OK) {
		bool again = false;

		if (!name || !rules_xattr(name))
			continue;
		if (len > LIMIT_XATTR_VALUE)
			return "an extended attribute is larger than 65535 bytes";
		for (uint32_t i = 0; i < n; i++)
			again |= strcmp(s->xattrs[i].name, name) == 0;
		if (!again)
			s->xattrs[n++] = (struct entry_xattr){name, value, (uint32_t)len};
	}
	kept = n;
	if (kept > 1)
		qsort(s->xattrs, kept, sizeof(*s->xattrs), compare_xattrs);
	entry->nxattrs = kept;
	entry->xattrs = s->xattrs;
	return NULL;
}

static const char *take_attributes(struct scan *s, struct archive_entry *ae, struct entry *entry)
{
	int64_t uid = archive_entry_uid(ae), gid = archive_entry_gid(ae);

	/* (uid_t)-1 is no owner: chown(2) takes it for "leave as it is". */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return "its owner or group is not a 32-bit number";
	entry->mode = archive_entry_perm(ae) & 07777;
	entry->uid = (uint32_t)uid;
	entry->gid = (uint32_t)gid;
	entry->mtime = archive_entry_mtime(ae);
	entry->mtime_ns = (uint32_t)archive_entry_mtime_nsec(ae);
	return take_xattrs(s, ae, entry);
}

static const char *take_target(struct scan *s, const char *target, struct entry *entry)
{
	if (!target || !target[0])
		return "its link target is empty";
	entry->target = s->target;
	if (entry->type == ENTRY_HARDLINK)
		return normalise(target, s->target);
	if (strlen(target) >= LIMIT_PATH)
		return "its link target is longer than 4095 bytes";
	memcpy(s->target, target, strlen(target) + 1);
	return NULL;
}

static const char *take_device(struct archive_entry *ae, struct entry *entry)
{
	dev_t major = archive_entry_rdevmajor(ae), minor = archive_entry_rdevminor(ae);

	if (major > RULES_MAJOR_MAX || minor > RULES_MINOR_MAX)
		return "its device number is too large";
	entry->rdev_major = (uint32_t)major;
	entry->rdev_minor = (uint32_t)minor;
	return NULL;
}

static const char *take_data(struct scan *s, struct archive_entry *ae, struct entry *entry)
{
	int64_t size = archive_entry_size(ae);
	uint64_t off = (uint64_t)archive_filter_bytes(s->a, 0);

	if (archive_entry_sparse_count(ae) > 0)
		return "it is a sparse file, its data is not in one piece in the tar";
	if (size < 0 || (uint64_t)size > LIMIT_TAR_SIZE - off)
		return "its size is out of range";
	entry->size = (uint64_t)size;
	entry->tar_offset = off;
	s->data_end = round_up(off + entry->size, 512);
	return NULL;
}

/* By the type flag; libarchive's idea of the type must agree. */
static const char *take_type(struct scan *s, struct archive_entry *ae, char flag,
			     struct entry *entry)
{
	static const struct {
		char flag;
		mode_t filetype;
		enum entry_type type;
	} types[] = {
		{'2', AE_IFLNK, ENTRY_SYMLINK}, {'3', AE_IFCHR, ENTRY_CHR},
		{'4', AE_IFBLK, ENTRY_BLK},     {'5', AE_IFDIR, ENTRY_DIR},
		{'6', AE_IFIFO, ENTRY_FIFO},
	};
	const char *raw = archive_entry_pathname(ae);
	mode_t filetype = archive_entry_filetype(ae);

	if (flag == '1') {
		entry->type = ENTRY_HARDLINK;
		return take_target(s, archive_entry_hardlink(ae), entry);
	}
	if (archive_entry_hardlink(ae))
		return "it has a link target and is no link";
	if (flag == '0' || flag == '7') {
		/* Old tars mark directories by the slash alone; libarchive reads no data then. */
		bool slash = raw[0] && raw[strlen(raw) - 1] == '/';

		if (slash && filetype == AE_IFREG && archive_entry_size(ae) > 0)
			return "it is a directory and has data";
		entry->type = slash ? ENTRY_DIR : ENTRY_REG;
		return slash ? NULL : take_data(s, ae, entry);
	}
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (types[i].flag == flag && types[i].filetype == filetype)
			entry->type = types[i].type;
	if (entry->type == ENTRY_SYMLINK)
		return take_target(s, archive_entry_symlink(ae), entry);
	if (entry->type == ENTRY_CHR || entry->type == ENTRY_BLK)
		return take_device(ae, entry);
	return entry->type ? NULL : "its type is unclear";
}

static int put_entry(struct scan *s, const struct entry *entry, struct err *e)
{
	const char *why = rules_entry(entry, LIMIT_TAR_SIZE);
	int r;

	if (why)
		return refuse(s, entry->path, why, e);
	if (s->nentries >= LIMIT_ENTRIES)
		return err_set(e, -EBADMSG, "%s: the tar has more than %u members", s->what,
			       LIMIT_ENTRIES);
	r = toc_put(s->toc, entry);
	if (r == -EFBIG)
		return err_set(e, -EBADMSG, "%s: the table of contents is larger than %zu bytes",
			       s->what, s->toc->max);
	if (r < 0)
		return err_errno(e, r, "%s: '%.200s'", s->what, entry->path);
	s->nentries++;
	return 0;
}

static int take_member(struct scan *s, struct archive_entry *ae, char flag, struct err *e)
{
	const char *raw = archive_entry_pathname(ae);
	struct entry entry = {.path = s->path};
	const char *why;
	int marker;

	if (!raw || !raw[0])
		return refuse(s, NULL, "a member has no name", e);
	why = normalise(raw, s->path);
	if (!why)
		why = take_type(s, ae, flag, &entry);
	if (why)
		return refuse(s, raw, why, e);
	marker = whiteout(s, &entry, &why);
	if (why)
		return refuse(s, raw, why, e);
	if (marker < 0)
		return 0;
	if (marker) {
		entry = (struct entry){.type = entry.type, .path = s->path};
		return put_entry(s, &entry, e);
	}
	why = take_attributes(s, ae, &entry);
	if (why == no_memory)
		return err_set(e, -ENOMEM, "%s: %s", s->what, why);
	return why ? refuse(s, raw, why, e) : put_entry(s, &entry, e);
}

/* --- the walk --- */

/*
 * The data of a member was as long as we say if and only if the next header (or the end) is where
 * it ends. Whatever else a header may say about sizes, this is the proof. Members that are no
 * files must have none: libarchive would skip the data of a hard link in a PAX archive, most
 * image tools would take it for the next header.
 */
static int check_gap(const struct scan *s, uint64_t next, bool at_end, struct err *e)
{
	uint64_t end = s->data_end;

	if (!s->in_member || next == end || (at_end && next > end && next - end <= 1024))
		return 0;
	return refuse(s, s->last_path, "its data is not as long as its size says", e);
}

/*
 * Only names that are not ASCII make libarchive 3.6 warn so (set_conversion_failed_error() in its
 * tar reader); it hands out their bytes as they are. All other warnings say that it has ignored
 * something, and are refusals here.
 */
static bool is_name_warning(struct archive *a)
{
	return archive_errno(a) == EILSEQ;
}

/* The raw headers of the member: in the block, or from several blocks put together. */
static const uint8_t *raw_header(struct scan *s, uint64_t data)
{
	uint64_t block_start = s->block_end - s->block_len;
	uint64_t len = data - s->header_start;

	if (s->header.len == 0 && s->header_start >= block_start && data <= s->block_end)
		return s->block + (s->header_start - block_start);
	if (s->header.len < len && keep_header(s, data) < 0)
		return NULL;
	return s->header.len >= len ? s->header.data : NULL;
}

static int check_header(struct scan *s, struct archive_entry *ae, char *ret_flag, struct err *e)
{
	uint64_t data = (uint64_t)archive_filter_bytes(s->a, 0);
	const uint8_t *raw = raw_header(s, data);
	const char *why = "its header is damaged";

	if (raw)
		why = tarhead_check(raw, (size_t)(data - s->header_start), ret_flag);
	return why ? refuse(s, archive_entry_pathname(ae), why, e) : 0;
}

/* 1: a member, 0: the end. */
static int next_member(struct scan *s, struct archive_entry **ret, struct err *e)
{
	int r;

	/* Skipping the data first tells apart what is read for it and for the headers. */
	r = s->in_member ? archive_read_data_skip(s->a) : ARCHIVE_OK;
	if (r < ARCHIVE_WARN)
		return archive_failed(s, s->last_path, e);
	buf_clear(&s->header);
	s->header_start = (uint64_t)archive_filter_bytes(s->a, 0);
	s->in_header = true;
	r = archive_read_next_header(s->a, ret);
	s->in_header = false;
	if (r == ARCHIVE_EOF && !s->stream_code)
		return check_gap(s, (uint64_t)archive_filter_bytes(s->a, 0), true, e);
	if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_name_warning(s->a)))
		return archive_failed(s, NULL, e);
	r = check_gap(s, (uint64_t)archive_read_header_position(s->a), false, e);
	return r < 0 ? r : 1;
}

static int walk(struct scan *s, struct err *e)
{
	struct archive_entry *ae;
	char flag = 0;
	int r;

	for (;;) {
		r = next_member(s, &ae, e);
		if (r <= 0)
			return r;
		s->in_member = true;
		s->data_end = (uint64_t)archive_filter_bytes(s->a, 0);
		r = check_header(s, ae, &flag, e);
		if (r < 0)
			return r;
		r = take_member(s, ae, flag, e);
		if (r < 0)
			return r;
		memcpy(s->last_path, s->path, strlen(s->path) + 1);
	}
}

static int scan(struct scan *s, struct err *e)
{
	int r = open_archive(s, e);

	if (r > 0)
		r = walk(s, e);
	return r < 0 ? r : drain(s, e);
}

int tarscan(struct stream *tar, const char *what, struct buf *toc, uint64_t *ret_nentries,
	    struct err *e)
{
	_cleanup_(scan_freep) struct scan *s = calloc(1, sizeof(*s));
	locale_t c, was;
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "%s: out of memory", what);
	s->tar = tar;
	s->what = what;
	s->toc = toc;
	buf_init(&s->header, LIMIT_TAR_HEADERS);
	/*
	 * In any other locale libarchive converts PAX names, which are UTF-8, to that locale's
	 * character set. In "C" it cannot, and leaves us the bytes.
	 */
	c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (!c)
		return err_set(e, -ENOMEM, "%s: out of memory", what);
	was = uselocale(c);
	r = scan(s, e);
	uselocale(was);
	freelocale(c);
	if (r < 0)
		return r;
	*ret_nentries = s->nentries;
	return 0;
}
