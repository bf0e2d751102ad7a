/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"

#define TAR_SIZE ((uint64_t)10 << 20)

static const struct entry_xattr two_xattrs[] = {
	{"security.capability", "\1\0\0", 3},
	{"user.empty", "", 0},
};

static const struct entry entries[] = {
	{.type = ENTRY_DIR, .path = "", .mode = 0755},
	{.type = ENTRY_DIR, .path = "d", .mode = 01777, .uid = 1, .gid = 2, .mtime = -3},
	{.type = ENTRY_REG,
	 .path = "d/f",
	 .mode = 06755,
	 .uid = 4294967294u,
	 .gid = 7,
	 .mtime = 1700000000,
	 .mtime_ns = 999999999,
	 .size = TAR_SIZE - 512,
	 .tar_offset = 512,
	 .nxattrs = 2,
	 .xattrs = two_xattrs},
	{.type = ENTRY_REG, .path = "empty", .tar_offset = TAR_SIZE},
	{.type = ENTRY_SYMLINK, .path = "d/s", .target = "../..//x", .mode = 0777},
	{.type = ENTRY_HARDLINK, .path = "d/h", .target = "d/f", .mode = 0644},
	{.type = ENTRY_CHR, .path = "c", .rdev_major = 5, .rdev_minor = 1048575},
	{.type = ENTRY_BLK, .path = "b", .rdev_major = 4095},
	{.type = ENTRY_FIFO, .path = "p", .mode = 0600},
	{.type = ENTRY_WHITEOUT, .path = "d/gone"},
	{.type = ENTRY_OPAQUE, .path = "d"},
	{.type = ENTRY_OPAQUE, .path = ""},
};

static void put_all(struct buf *toc)
{
	buf_init(toc, LIMIT_TOC);
	for (size_t i = 0; i < ARRAY_LEN(entries); i++)
		assert_int_equal(toc_put(toc, &entries[i]), 0);
}

static void expect_same(const struct entry *a, const struct entry *b)
{
	assert_int_equal(a->type, b->type);
	assert_string_equal(a->path, b->path);
	assert_int_equal(!a->target, !b->target);
	if (a->target)
		assert_string_equal(a->target, b->target);
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->rdev_major, b->rdev_major);
	assert_int_equal(a->rdev_minor, b->rdev_minor);
	assert_int_equal(a->mtime, b->mtime);
	assert_int_equal(a->mtime_ns, b->mtime_ns);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->tar_offset, b->tar_offset);
	assert_int_equal(a->nxattrs, b->nxattrs);
	for (uint32_t i = 0; i < a->nxattrs; i++) {
		assert_string_equal(a->xattrs[i].name, b->xattrs[i].name);
		assert_int_equal(a->xattrs[i].value_len, b->xattrs[i].value_len);
		assert_memory_equal(a->xattrs[i].value, b->xattrs[i].value, a->xattrs[i].value_len);
	}
}

/* Walks a table of contents; 0 when all of it is in order. */
static int walk(const void *toc, size_t len, uint64_t n, uint64_t tar_size, struct err *e)
{
	_cleanup_(toc_reader_freep) struct toc_reader *r = NULL;
	struct entry entry;
	int rc = toc_reader_new(toc, len, n, tar_size, &r);

	while (rc == 0) {
		rc = toc_next(r, &entry, e);
		if (rc <= 0)
			return rc;
		rc = 0;
	}
	return rc;
}

static void entries_survive(void **state)
{
	_cleanup_(toc_reader_freep) struct toc_reader *r = NULL;
	_cleanup_buf_ struct buf toc;
	struct entry entry;

	put_all(&toc);
	assert_int_equal(toc_reader_new(toc.data, toc.len, ARRAY_LEN(entries), TAR_SIZE, &r), 0);
	for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
		assert_int_equal(toc_next(r, &entry, NULL), 1);
		expect_same(&entries[i], &entry);
	}
	assert_int_equal(toc_next(r, &entry, NULL), 0);
	assert_int_equal(toc_next(r, &entry, NULL), 0);
}

static void bad_entries_are_not_written(void **state)
{
	static const struct entry_xattr unsorted[] = {{"user.b", "", 0}, {"user.a", "", 0}};
	static const struct entry_xattr twice[] = {{"user.a", "", 0}, {"user.a", "", 0}};
	static const struct entry_xattr overlay[] = {{"trusted.overlay.opaque", "y", 1}};
	static const struct entry_xattr user_overlay[] = {{"user.overlay.redirect", "y", 1}};
	static const struct entry_xattr strange[] = {{"system.nfs4_acl", "y", 1}};
	static const struct entry_xattr nameless[] = {{"security.", "y", 1}};
	static const struct entry_xattr large[] = {{"user.a", "", LIMIT_XATTR_VALUE + 1}};
	static char name[257], path[4097];
	const struct entry bad[] = {
		{.type = 0, .path = "x"},
		{.type = 10, .path = "x"},
		{.type = ENTRY_REG, .path = ""},
		{.type = ENTRY_WHITEOUT, .path = ""},
		{.type = ENTRY_REG, .path = "/x"},
		{.type = ENTRY_REG, .path = "x/"},
		{.type = ENTRY_REG, .path = "x//y"},
		{.type = ENTRY_REG, .path = "."},
		{.type = ENTRY_REG, .path = "x/./y"},
		{.type = ENTRY_REG, .path = "x/.."},
		{.type = ENTRY_REG, .path = name},
		{.type = ENTRY_REG, .path = path},
		{.type = ENTRY_REG, .path = "x", .mode = 010000},
		{.type = ENTRY_REG, .path = "x", .mtime_ns = 1000000000},
		{.type = ENTRY_REG, .path = "x", .target = "y"},
		{.type = ENTRY_REG, .path = "x", .tar_offset = 511},
		{.type = ENTRY_REG, .path = "x", .size = LIMIT_TAR_SIZE + 1},
		{.type = ENTRY_REG, .path = "x", .size = UINT64_MAX, .tar_offset = 512},
		{.type = ENTRY_REG, .path = "x", .rdev_minor = 1},
		{.type = ENTRY_DIR, .path = "x", .size = 1},
		{.type = ENTRY_DIR, .path = "x", .tar_offset = 512},
		{.type = ENTRY_SYMLINK, .path = "x"},
		{.type = ENTRY_SYMLINK, .path = "x", .target = ""},
		{.type = ENTRY_SYMLINK, .path = "x", .target = path},
		{.type = ENTRY_HARDLINK, .path = "x", .target = ""},
		{.type = ENTRY_HARDLINK, .path = "x", .target = "../y"},
		{.type = ENTRY_CHR, .path = "x", .rdev_major = 4096},
		{.type = ENTRY_BLK, .path = "x", .rdev_minor = 1048576},
		{.type = ENTRY_WHITEOUT, .path = "x", .mode = 1},
		{.type = ENTRY_OPAQUE, .path = "x", .mtime = 1},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 2, .xattrs = unsorted},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 2, .xattrs = twice},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 1, .xattrs = overlay},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 1, .xattrs = user_overlay},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 1, .xattrs = strange},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 1, .xattrs = nameless},
		{.type = ENTRY_REG, .path = "x", .nxattrs = 1, .xattrs = large},
		{.type = ENTRY_REG, .path = "x", .nxattrs = LIMIT_XATTRS + 1},
	};
	_cleanup_buf_ struct buf toc;

	memset(name, 'n', 256);
	memset(path, 'p', 4096);
	for (size_t i = 200; i < 4096; i += 200)
		path[i] = '/';
	buf_init(&toc, LIMIT_TOC);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (toc_put(&toc, &bad[i]) != -EINVAL)
			fail_msg("bad entry %zu was written", i);
		assert_int_equal(toc.len, 0);
	}
	path[4095] = '\0';
	name[255] = '\0';
	assert_int_equal(toc_put(&toc, &bad[10]), 0);
	assert_int_equal(toc_put(&toc, &bad[11]), 0);
	assert_int_equal(toc_put(&toc, &bad[23]), 0);
}

/* What the writer refuses the reader refuses too: patched behind the writer's back. */
static void bad_records_are_found(void **state)
{
	static const struct {
		const char *find, *put;
		size_t len;
		const char *why;
	} patches[] = {
		{"d/f\0", "d//\0", 4, "empty component"},
		{"d/f\0", "../\0", 4, "\"..\""},
		{"d/f\0", "d/f/", 4, "path is damaged"},
		{"d/f\0", "d\0f\0", 4, "path is damaged"},
		{"security.capability", "trusted.overlay.abc", 19, "not one we carry"},
		{"security.capability", "user.z1234567890123", 19, "not sorted"},
		{"security.capability", "security.capabilit\0", 19, "extended attribute"},
		{"../..//x", "../..//\0", 8, "target is damaged"},
		{"d/gone", "d/../x", 6, "\"..\""},
		{"d/gone", "d/gon/", 6, "empty component"},
	};
	_cleanup_buf_ struct buf toc;

	put_all(&toc);
	for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
		uint8_t *at = memmem(toc.data, toc.len, patches[i].find, patches[i].len);
		struct err e = ERR_INIT;

		assert_non_null(at);
		memcpy(at, patches[i].put, patches[i].len);
		assert_int_equal(walk(toc.data, toc.len, ARRAY_LEN(entries), TAR_SIZE, &e),
				 -EBADMSG);
		if (!strstr(e.text, patches[i].why))
			fail_msg("'%s' not in '%s'", patches[i].why, e.text);
		memcpy(at, patches[i].find, patches[i].len);
	}
	assert_int_equal(walk(toc.data, toc.len, ARRAY_LEN(entries), TAR_SIZE, NULL), 0);
}

static void lengths_that_do_not_fit(void **state)
{
	size_t n = ARRAY_LEN(entries);
	_cleanup_buf_ struct buf toc;

	put_all(&toc);
	for (size_t len = 0; len < toc.len; len++) {
		/* A copy of just these bytes, so that a sanitizer sees a read behind them. */
		uint8_t *copy = malloc(len + !len);

		memcpy(copy, toc.data, len);
		assert_int_equal(walk(copy, len, n, TAR_SIZE, NULL), -EBADMSG);
		free(copy);
	}
	assert_int_equal(walk(toc.data, toc.len, n - 1, TAR_SIZE, NULL), -EBADMSG);
	assert_int_equal(walk(toc.data, toc.len, n + 1, TAR_SIZE, NULL), -EBADMSG);
	assert_int_equal(walk(toc.data, toc.len, n, TAR_SIZE - 1, NULL), -EBADMSG);
	assert_int_equal(walk(toc.data, toc.len, LIMIT_ENTRIES + 1, TAR_SIZE, NULL), -EINVAL);
	assert_int_equal(walk(toc.data, toc.len, n, LIMIT_TAR_SIZE + 1, NULL), -EINVAL);
	assert_int_equal(walk(NULL, 0, 0, 0, NULL), 0);
}

static void a_full_buffer_holds_whole_records(void **state)
{
	_cleanup_buf_ struct buf toc;

	put_all(&toc);
	for (size_t max = 0; max < 200; max += 7) {
		_cleanup_buf_ struct buf small;
		uint64_t n = 0;

		buf_init(&small, max);
		while (n < ARRAY_LEN(entries) && toc_put(&small, &entries[n]) == 0)
			n++;
		assert_int_equal(small.failed, -EFBIG);
		assert_int_equal(walk(small.data, small.len, n, TAR_SIZE, NULL), 0);
	}
}

/* An index of a tar that ends @more bytes into its last span. */
static void make(struct index *ix, struct buf *toc, struct digest *digests, uint32_t more)
{
	put_all(toc);
	memset(digests, 0xab, 11 * sizeof(*digests));
	*ix = (struct index){.diff_id = {.sum = {1, 2, 3}},
			     .tar_size = TAR_SIZE + more,
			     .span_size = 1u << 20,
			     .nspans = 10 + (more > 0),
			     .nentries = ARRAY_LEN(entries),
			     .toc = toc->data,
			     .toc_len = toc->len,
			     .digests = digests};
}

static void an_index_survives(void **state)
{
	struct digest digests[11];
	_cleanup_buf_ struct buf toc, out;
	struct index ix, back;
	struct err e = ERR_INIT;

	make(&ix, &toc, digests, 17);
	buf_init(&out, LIMIT_TOC);
	assert_int_equal(index_encode(&ix, &out), 0);
	assert_int_equal(out.len, 80 + toc.len + 11 * 32 + 32);
	assert_memory_equal(out.data, "TARNIDX\1", 8);
	if (index_decode(out.data, out.len, "layer X", &back, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(digest_equal(&back.diff_id, &ix.diff_id));
	assert_int_equal(back.tar_size, ix.tar_size);
	assert_int_equal(back.span_size, ix.span_size);
	assert_int_equal(back.nspans, 11);
	assert_int_equal(back.nentries, ix.nentries);
	assert_int_equal(back.toc_len, toc.len);
	assert_memory_equal(back.toc, toc.data, toc.len);
	assert_memory_equal(back.digests, digests, sizeof(digests));
	assert_int_equal(index_span_start(&back, 10), TAR_SIZE);
	assert_int_equal(index_span_len(&back, 10), 17);
	assert_int_equal(index_span_len(&back, 9), 1u << 20);
}

static void an_empty_layer(void **state)
{
	struct index ix = {.span_size = LIMIT_SPAN_MIN}, back;
	_cleanup_buf_ struct buf out;

	buf_init(&out, 1000);
	assert_int_equal(index_encode(&ix, &out), 0);
	assert_int_equal(index_decode(out.data, out.len, "layer X", &back, NULL), 0);
	assert_int_equal(back.nspans, 0);
	assert_int_equal(back.toc_len, 0);
}

static void wrong_headers(void **state)
{
	struct digest digests[11];
	_cleanup_buf_ struct buf toc, out;
	struct index ix, bad;

	make(&ix, &toc, digests, 17);
	buf_init(&out, LIMIT_TOC);
	for (unsigned i = 0; i < 7; i++) {
		bad = ix;
		bad.span_size = i == 0 ? 1000000 : i == 1 ? 8u << 20 : bad.span_size;
		bad.span_size = i == 2 ? 32768 : bad.span_size;
		bad.nspans += i == 3 ? 1 : i == 4 ? -1 : 0;
		bad.nentries = i == 5 ? LIMIT_ENTRIES + 1 : bad.nentries;
		bad.tar_size = i == 6 ? LIMIT_TAR_SIZE + 1 : bad.tar_size;
		assert_int_equal(index_encode(&bad, &out), -EINVAL);
	}
	assert_int_equal(out.len, 0);
}

/* Sets a 32-bit number in a finished index and makes its checksum right again. */
static void patch(struct buf *b, size_t at, uint32_t v)
{
	struct digest sum;

	for (size_t i = 0; i < 4; i++)
		b->data[at + i] = (uint8_t)(v >> (8 * i));
	assert_int_equal(digest_of(b->data, b->len - 32, &sum), 0);
	memcpy(b->data + b->len - 32, sum.sum, 32);
}

static void damage_is_found(void **state)
{
	static const struct {
		size_t at;
		uint32_t v;
		const char *why;
	} patches[] = {
		{0, 0, "no layer index"},
		{8, 2, "version 2"},
		{12, 81, "version"},
		{48, 0, "number of spans"},
		{52, 1u << 30, "larger than 2 TiB"},
		{56, 12345, "power of two"},
		{60, 10, "number of spans"},
		{64, 0, "does not fit its header"},
		{68, 1, "table of contents is cut"},
		{72, 0xffffffff, "too many entries"},
	};
	struct digest digests[11];
	_cleanup_buf_ struct buf toc, out;
	struct index ix, back;
	struct err e = ERR_INIT;

	make(&ix, &toc, digests, 17);
	buf_init(&out, LIMIT_TOC);
	for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
		buf_clear(&out);
		assert_int_equal(index_encode(&ix, &out), 0);
		patch(&out, patches[i].at, patches[i].v);
		assert_int_equal(index_decode(out.data, out.len, "layer X", &back, &e), -EBADMSG);
		if (!strstr(e.text, patches[i].why))
			fail_msg("%zu: '%s' not in '%s'", i, patches[i].why, e.text);
	}
	buf_clear(&out);
	assert_int_equal(index_encode(&ix, &out), 0);
	for (size_t len = 0; len < out.len; len += 11)
		assert_int_equal(index_decode(out.data, len, "layer X", &back, NULL), -EBADMSG);
	for (size_t i = 0; i < out.len; i++) {
		out.data[i] ^= 0x10;
		assert_int_equal(index_decode(out.data, out.len, "layer X", &back, &e), -EBADMSG);
		out.data[i] ^= 0x10;
	}
	assert_int_equal(index_decode(out.data, out.len, "layer X", &back, &e), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_survive),
		cmocka_unit_test(bad_entries_are_not_written),
		cmocka_unit_test(bad_records_are_found),
		cmocka_unit_test(lengths_that_do_not_fit),
		cmocka_unit_test(a_full_buffer_holds_whole_records),
		cmocka_unit_test(an_index_survives),
		cmocka_unit_test(an_empty_layer),
		cmocka_unit_test(wrong_headers),
		cmocka_unit_test(damage_is_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
