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
#include "oci/index/blobmap.h"
#include "tests/unit/packing.h"

#define SPAN      LIMIT_SPAN_MIN
#define BLOB_SIZE 200000

static const struct digest blob = {.sum = {9, 8, 7}};

static void add(struct blobmap_builder *b, uint64_t in, uint64_t out, uint8_t bits, bool member,
		uint32_t window_len, uint64_t in_end)
{
	struct checkpoint *cp = calloc(1, sizeof(*cp));

	cp->in = in;
	cp->out = out;
	cp->bits = bits;
	cp->member = member;
	cp->window_len = window_len;
	packing_fill(cp->window, window_len, in);
	assert_int_equal(blobmap_builder_add(b, cp, in_end), 0);
	free(cp);
}

/* Five spans of a gzip blob on three points. */
static void make(struct buf *out)
{
	_cleanup_(blobmap_builder_freep) struct blobmap_builder *b = NULL;

	buf_init(out, PACKING_MAX);
	assert_int_equal(blobmap_builder_new(CODEC_GZIP, SPAN, &b), 0);
	add(b, 0, 0, 0, true, 0, 20000);
	add(b, 15000, 50000, 3, false, CODEC_WINDOW, 40000);
	add(b, 15000, 50000, 3, false, CODEC_WINDOW, 60000);
	add(b, 15000, 50000, 3, false, CODEC_WINDOW, 80000);
	add(b, 79999, 4 * SPAN - 1, 0, false, 777, BLOB_SIZE);
	assert_int_equal(blobmap_builder_encode(b, &blob, BLOB_SIZE, out), 0);
}

static void a_map_survives(void **state)
{
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	struct checkpoint *cp = malloc(sizeof(*cp));
	static uint8_t want[CODEC_WINDOW];
	static const uint32_t points[] = {0, 1, 1, 1, 2};
	static const uint64_t ends[] = {20000, 40000, 60000, 80000, BLOB_SIZE};
	_cleanup_buf_ struct buf b;
	struct err e = ERR_INIT;

	make(&b);
	if (blobmap_decode(b.data, b.len, "map", &m, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(blobmap_codec(m), CODEC_GZIP);
	assert_true(digest_equal(blobmap_digest(m), &blob));
	assert_int_equal(blobmap_blob_size(m), BLOB_SIZE);
	assert_int_equal(blobmap_nspans(m), 5);
	assert_int_equal(blobmap_span_size(m), SPAN);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(blobmap_span(m, i).point, points[i]);
		assert_int_equal(blobmap_span(m, i).in_end, ends[i]);
	}
	assert_int_equal(blobmap_point_in(m, 0), 0);
	assert_int_equal(blobmap_point_in(m, 1), 14999); /* for its bits */
	assert_int_equal(blobmap_point_in(m, 2), 79999);
	assert_int_equal(blobmap_point_out(m, 1), 50000);

	assert_int_equal(blobmap_checkpoint(m, 0, cp), 0);
	assert_true(cp->member);
	assert_int_equal(cp->window_len, 0);
	assert_int_equal(blobmap_checkpoint(m, 1, cp), 0);
	packing_fill(want, CODEC_WINDOW, 15000);
	assert_int_equal(cp->in, 15000);
	assert_int_equal(cp->bits, 3);
	assert_false(cp->member);
	assert_int_equal(cp->window_len, CODEC_WINDOW);
	assert_memory_equal(cp->window, want, CODEC_WINDOW);
	assert_int_equal(blobmap_checkpoint(m, 2, cp), 0);
	packing_fill(want, 777, 79999);
	assert_int_equal(cp->window_len, 777);
	assert_memory_equal(cp->window, want, 777);
	assert_int_equal(blobmap_checkpoint(m, 3, cp), -EINVAL);
	free(cp);
}

static void an_empty_map(void **state)
{
	_cleanup_(blobmap_builder_freep) struct blobmap_builder *b = NULL;
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	_cleanup_buf_ struct buf out;

	buf_init(&out, PACKING_MAX);
	assert_int_equal(blobmap_builder_new(CODEC_ZSTD, LIMIT_SPAN_MAX, &b), 0);
	assert_int_equal(blobmap_builder_encode(b, &blob, 9, &out), 0);
	assert_int_equal(blobmap_decode(out.data, out.len, "map", &m, NULL), 0);
	assert_int_equal(blobmap_nspans(m), 0);
	assert_int_equal(blobmap_codec(m), CODEC_ZSTD);
}

static void builders_refuse(void **state)
{
	_cleanup_(blobmap_builder_freep) struct blobmap_builder *b = NULL;
	struct checkpoint *cp = calloc(1, sizeof(*cp));

	assert_int_equal(blobmap_builder_new(CODEC_COUNT, SPAN, &b), -EINVAL);
	assert_int_equal(blobmap_builder_new(CODEC_RAW, SPAN / 2, &b), -EINVAL);
	assert_int_equal(blobmap_builder_new(CODEC_RAW, SPAN * 3, &b), -EINVAL);
	assert_int_equal(blobmap_builder_new(CODEC_RAW, 2 * LIMIT_SPAN_MAX, &b), -EINVAL);
	assert_null(b);
	assert_int_equal(blobmap_builder_new(CODEC_RAW, SPAN, &b), 0);
	cp->out = 1; /* the first span starts at 0 */
	assert_int_equal(blobmap_builder_add(b, cp, 1), -EINVAL);
	free(cp);
}

/* Makes the checksum right again, so that what is tested is not the checksum. */
static void seal(struct buf *b)
{
	struct digest sum;

	assert_int_equal(digest_of(b->data, b->len - 32, &sum), 0);
	memcpy(b->data + b->len - 32, sum.sum, 32);
}

static void expect_bad(const struct buf *b, size_t len, const char *why)
{
	struct blobmap *m = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(blobmap_decode(b->data, len, "map", &m, &e), -EBADMSG);
	assert_null(m);
	if (!strstr(e.text, why))
		fail_msg("'%s' not in '%s'", why, e.text);
}

/* Where things are in a map of 3 points: header, points of 32 bytes, spans of 12. */
#define POINT(i) ((size_t)80 + 32 * (i))
#define MSPAN(i) ((size_t)80 + 32 * 3 + 12 * (i))

static void damage_is_found(void **state)
{
	static const struct {
		size_t at;
		uint8_t v;
		const char *why;
	} patches[] = {
		{0, 'X', "none"},
		{8, 2, "version"},
		{12, 1, "version"},
		{48, 1, "input makes no sense"},
		{49, 0, "input makes no sense"},
		{56, 3, "codec"},
		{56, 0, "makes no sense"}, /* raw points look different */
		{56, 2, "makes no sense"},
		{62, 0, "power of two"},
		{64, 4, "length"},
		{68, 9, "too many"},
		{68, 2, "length"},
		{72, 0, "length"},
		{POINT(0) + 28, 1, "makes no sense"},
		{POINT(1) + 30, 8, "makes no sense"},
		{POINT(1) + 30, 0, NULL},
		{POINT(1) + 31, 1, "makes no sense"},
		{POINT(1) + 29, 0xff, "makes no sense"},
		{POINT(1) + 16, 1, "windows"},
		{POINT(2) + 2, 0, "not in order"},
		{POINT(2) + 10, 9, "starts before"},
		{MSPAN(0) + 8, 1, "no checkpoint"},
		{MSPAN(4) + 8, 1, "has no span"},
		{MSPAN(4) + 8, 3, "no checkpoint"},
		{MSPAN(2) + 2, 0, NULL},
		{MSPAN(2) + 1, 0, "input makes no sense"},
		{MSPAN(4) + 7, 1, "input makes no sense"},
	};
	_cleanup_buf_ struct buf b;

	make(&b);
	for (size_t i = 0; i < ARRAY_LEN(patches); i++) {
		uint8_t was = b.data[patches[i].at];
		struct blobmap *m = NULL;

		b.data[patches[i].at] = patches[i].v;
		seal(&b);
		if (patches[i].why)
			expect_bad(&b, b.len, patches[i].why);
		else
			assert_int_equal(blobmap_decode(b.data, b.len, "map", &m, NULL), 0);
		blobmap_free(m);
		b.data[patches[i].at] = was;
	}
	seal(&b);
	for (size_t len = 0; len < b.len; len += 97)
		expect_bad(&b, len, "");
	for (size_t i = 0; i < b.len; i += 13) {
		b.data[i] ^= 0x10;
		expect_bad(&b, b.len, "");
		b.data[i] ^= 0x10;
	}
}

static void a_damaged_window_is_found(void **state)
{
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	struct checkpoint *cp = malloc(sizeof(*cp));
	_cleanup_buf_ struct buf b;
	size_t stored;

	make(&b);
	stored = b.data[POINT(1) + 24] | b.data[POINT(1) + 25] << 8;
	b.data[MSPAN(5) + stored - 1] ^= 1; /* the last byte of the first window */
	seal(&b);
	assert_int_equal(blobmap_decode(b.data, b.len, "map", &m, NULL), 0);
	assert_int_equal(blobmap_checkpoint(m, 0, cp), 0);
	assert_int_equal(blobmap_checkpoint(m, 1, cp), -EBADMSG);
	assert_int_equal(blobmap_checkpoint(m, 2, cp), 0);
	free(cp);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_survives),
		cmocka_unit_test(an_empty_map),
		cmocka_unit_test(builders_refuse),
		cmocka_unit_test(damage_is_found),
		cmocka_unit_test(a_damaged_window_is_found),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
