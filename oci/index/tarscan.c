/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/tarscan.h"

#include <errno.h>
#include <iconv.h>
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
#include "oci/index/index.h"
#include "oci/index/tarhead.h"
#include "oci/index/tarmember.h"
#include "oci/stream.h"

/* What libarchive gets to see at once. Larger gains nothing and leaves the L2 cache. */
#define BLOCK_SIZE (256u << 10)

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
	uint64_t data_stop; /* its last byte */
	uint64_t data_end;  /* and the padding */
	bool padded;        /* the last member's padding was missing */
	uint64_t end_at;    /* what libarchive had used when it saw the end */

	struct tarmember member; /* the last one */
	uint64_t nentries;

	int stream_code; /* the stream's failure, which libarchive cannot word */
	struct err stream_err;
};

static void scan_free(struct scan *s)
{
	archive_read_free(s->a);
	buf_free(&s->header);
	tarmember_free(&s->member);
	free(s->block);
	free(s);
}

DEFINE_CLEANUP(struct scan, scan_free)

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

/*
 * `umoci insert` (0.4.7) writes tars that end with the last file's last byte: neither padding nor
 * an end marker. Every image tool takes them, libarchive does not without the padding.
 */
static size_t missing_padding(struct scan *s)
{
	size_t n = (size_t)(-s->block_end % 512);

	if (s->padded || !s->in_member || n == 0 || s->block_end < s->data_stop ||
	    s->block_end + n != s->data_end)
		return 0;
	s->padded = true;
	memset(s->block, 0, n);
	return n;
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
	if (r == 0)
		r = (ssize_t)missing_padding(s);
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
		return err_take(e, s->stream_code, s->stream_err.text, &s->stream_err.links);
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

static int put_entry(struct scan *s, const struct entry *entry, const char *raw, struct err *e)
{
	int r;

	if (s->nentries >= LIMIT_ENTRIES)
		return err_set(e, -EBADMSG, "%s: the tar has more than %u members", s->what,
			       LIMIT_ENTRIES);
	r = toc_put(s->toc, entry);
	if (r == -EFBIG)
		return err_set(e, -EBADMSG, "%s: the table of contents is larger than %zu bytes",
			       s->what, s->toc->max);
	if (r < 0)
		return err_errno(e, r, "%s: '%.200s'", s->what, raw);
	s->nentries++;
	return 0;
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
	return refuse(s, s->member.path, "its data is not as long as its size says", e);
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

/* NULL and the member's type flag, or why it is refused. */
static const char *check_header(struct scan *s, uint64_t data, char *ret_flag)
{
	const uint8_t *raw = raw_header(s, data);

	if (!raw)
		return "its header is damaged";
	return tarhead_check(raw, (size_t)(data - s->header_start), ret_flag);
}

/* 1: a member, 0: the end. */
static int next_member(struct scan *s, struct archive_entry **ret, struct err *e)
{
	int r;

	/* Skipping the data first tells apart what is read for it and for the headers. */
	r = s->in_member ? archive_read_data_skip(s->a) : ARCHIVE_OK;
	if (r < ARCHIVE_WARN)
		return archive_failed(s, s->member.path, e);
	buf_clear(&s->header);
	s->header_start = (uint64_t)archive_filter_bytes(s->a, 0);
	s->in_header = true;
	r = archive_read_next_header(s->a, ret);
	s->in_header = false;
	if (r == ARCHIVE_EOF && !s->stream_code) {
		s->end_at = (uint64_t)archive_filter_bytes(s->a, 0);
		return check_gap(s, s->end_at, true, e);
	}
	if (r != ARCHIVE_OK && !(r == ARCHIVE_WARN && is_name_warning(s->a)))
		return archive_failed(s, NULL, e);
	r = check_gap(s, (uint64_t)archive_read_header_position(s->a), false, e);
	return r < 0 ? r : 1;
}

static int take_member(struct scan *s, struct archive_entry *ae, struct err *e)
{
	uint64_t off = (uint64_t)archive_filter_bytes(s->a, 0);
	const char *raw = archive_entry_pathname(ae);
	struct entry entry;
	const char *why;
	bool show;
	char flag;
	int r = 0;

	why = check_header(s, off, &flag);
	if (!why)
		why = tarmember_take(&s->member, ae, flag, off, &entry, &show);
	if (why == tarmember_no_memory)
		return err_set(e, -ENOMEM, "%s: %s", s->what, why);
	if (why)
		return refuse(s, raw, why, e);
	if (show)
		r = put_entry(s, &entry, raw, e);
	s->in_member = true;
	s->data_stop = off + s->member.data_len;
	s->data_end = round_up(s->data_stop, 512);
	return r;
}

static int walk(struct scan *s, struct err *e)
{
	struct archive_entry *ae;
	int r;

	for (;;) {
		r = next_member(s, &ae, e);
		if (r > 0)
			r = take_member(s, ae, e);
		else
			return r;
		if (r < 0)
			return r;
	}
}

static int scan(struct scan *s, struct err *e)
{
	int r = open_archive(s, e);

	if (r > 0)
		r = walk(s, e);
	if (r == 0)
		r = drain(s, e);
	/* Without an end marker the tar must end behind a member, not inside a header. */
	if (r == 0 && s->end_at == s->data_end && s->block_end != s->end_at)
		return err_set(e, -EBADMSG, "%s: the tar ends in the middle of a header", s->what);
	return r;
}

void tarscan_prepare(void)
{
	/* The names glibc has for what libarchive asks for: PAX names to those of the "C" locale.
	 */
	iconv_t c = iconv_open("ANSI_X3.4-1968", "UTF-8");

	if (c != (iconv_t)-1)
		iconv_close(c);
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
