/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/err.h"
#include "oci/codec/codec.h"
#include "tests/unit/packing.h"

#define LEN ((size_t)1 << 20)

static uint8_t *plain; /* LEN bytes that all blobs are made of */

static const struct decoder_options whole = {.track = false, .verify = true};
static const struct decoder_options tracking = {.track = true, .verify = true};
static const struct decoder_options trusting = {.track = false, .verify = false};

static int setup(void **state)
{
	plain = malloc(LEN);
	packing_fill(plain, LEN, 7);
	return plain ? 0 : -1;
}

static int teardown(void **state)
{
	free(plain);
	return 0;
}

/* Reads to the end in pieces of @piece; returns what came out or the error. */
static ssize_t decode(enum codec_kind kind, const struct checkpoint *from, const void *in,
		      size_t in_len, size_t step, const struct decoder_options *opt, uint8_t *out,
		      size_t max, size_t piece, struct err *e)
{
	_cleanup_(decoder_freep) struct decoder *d = NULL;
	struct drip s = drip_of(in, in_len, step);
	size_t got = 0;
	ssize_t r;

	r = decoder_open(kind, from, &s.s, opt, &d, e);
	while (r == 0 && got < max) {
		r = decoder_read(d, out + got, piece < max - got ? piece : max - got, e);
		if (r <= 0)
			break;
		got += (size_t)r;
		r = 0;
	}
	return r < 0 ? r : (ssize_t)got;
}

static void expect_plain(enum codec_kind kind, const struct buf *blob, size_t want)
{
	static const size_t pieces[] = {1, 1000, 65536, LEN + 1};
	static const size_t steps[] = {1, 513, LEN};
	uint8_t *out = malloc(LEN + 1);

	assert_int_equal(blob->failed, 0);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		for (size_t j = 0; j < ARRAY_LEN(steps); j++) {
			const struct decoder_options *opt = j ? &tracking : &whole;
			struct err e = ERR_INIT;
			ssize_t n;

			memset(out, 0x55, LEN + 1);
			n = decode(kind, NULL, blob->data, blob->len, steps[j], opt, out, LEN + 1,
				   pieces[i], &e);
			if (n < 0)
				print_message("%s\n", e.text);
			assert_int_equal(n, want);
			assert_memory_equal(out, plain, want);
		}
	}
	free(out);
}

/*
 * The promise of decoder_checkpoint() and decoder_consumed(): at each multiple of @every, the
 * bytes up to the next one come out of the blob's bytes between the two numbers alone.
 */
static void expect_resumes(enum codec_kind kind, const struct buf *blob, size_t want, size_t every,
			   unsigned *ret_bits)
{
	_cleanup_(decoder_freep) struct decoder *d = NULL;
	struct drip s = drip_of(blob->data, blob->len, 4000);
	struct checkpoint *cp = malloc(sizeof(*cp));
	uint8_t *out = malloc(every), *again = malloc(want + every);

	assert_int_equal(decoder_open(kind, NULL, &s.s, &tracking, &d, NULL), 0);
	for (size_t at = 0; at < want; at += every) {
		size_t n = every < want - at ? every : want - at, got = 0, start, skip;
		struct err e = ERR_INIT;
		ssize_t r;

		decoder_checkpoint(d, cp);
		assert_true(cp->out <= at);
		if (ret_bits)
			*ret_bits |= 1u << cp->bits;
		while (got < n) {
			r = decoder_read(d, out + got, n - got, &e);
			assert_true(r > 0);
			got += (size_t)r;
		}
		assert_memory_equal(out, plain + at, n);
		assert_true(decoder_consumed(d) <= blob->len);
		start = cp->in - (cp->bits ? 1 : 0);
		skip = at - cp->out;
		r = decode(kind, cp, blob->data + start, decoder_consumed(d) - start, 3000,
			   &trusting, again, skip + n, 5000, &e);
		if (r < 0)
			print_message("at %zu: %s\n", at, e.text);
		assert_int_equal(r, skip + n);
		assert_memory_equal(again, plain + cp->out, skip + n);
	}
	free(out);
	free(again);
	free(cp);
}

static void expect_all(enum codec_kind kind, const struct buf *blob, size_t want)
{
	expect_plain(kind, blob, want);
	expect_resumes(kind, blob, want, 10007, NULL);
	expect_resumes(kind, blob, want, 262144, NULL);
}

static void expect_failure(enum codec_kind kind, const void *in, size_t len, int code,
			   const char *text)
{
	uint8_t *out = malloc(LEN + 1);

	for (size_t step = 1; step <= LEN; step *= 1000) {
		struct err e = ERR_INIT;

		assert_int_equal(
			decode(kind, NULL, in, len, step, &tracking, out, LEN + 1, 70000, &e),
			code);
		assert_non_null(strstr(e.text, text));
		assert_int_equal(e.code, code);
		assert_int_equal(
			decode(kind, NULL, in, len, step, &whole, out, LEN + 1, 70000, NULL), code);
	}
	free(out);
}

static void sniffs_by_content(void **state)
{
	assert_int_equal(codec_sniff("\x1f\x8b\x08", 3), CODEC_GZIP);
	assert_int_equal(codec_sniff("\x1f", 1), CODEC_RAW);
	assert_int_equal(codec_sniff("\x28\xb5\x2f\xfd", 4), CODEC_ZSTD);
	assert_int_equal(codec_sniff("\x5e\x2a\x4d\x18zz", 6), CODEC_ZSTD);
	assert_int_equal(codec_sniff("\x60\x2a\x4d\x18zz", 6), CODEC_RAW);
	assert_int_equal(codec_sniff("\x28\xb5\x2f", 3), CODEC_RAW);
	assert_int_equal(codec_sniff("", 0), CODEC_RAW);
	assert_int_equal(codec_sniff("etc/pa", 6), CODEC_RAW);
	assert_string_equal(codec_name(CODEC_GZIP), "gzip");
	assert_string_equal(codec_name(CODEC_ZSTD), "zstd");
	assert_string_equal(codec_name(CODEC_RAW), "raw");
	assert_string_equal(codec_name(77), "unknown");
}

static void raw_is_what_it_is(void **state)
{
	struct buf b = {.data = plain, .len = LEN};
	struct buf none = {.data = plain};

	expect_all(CODEC_RAW, &b, LEN);
	expect_plain(CODEC_RAW, &none, 0);
}

static void gzip_of_every_level(void **state)
{
	static const int levels[] = {0, 1, 3, 6, 9};
	unsigned bits = 0;

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		_cleanup_buf_ struct buf b;

		buf_init(&b, PACKING_MAX);
		packing_gzip(&b, plain, LEN, levels[i], 0, 0);
		expect_all(CODEC_GZIP, &b, LEN);
		expect_resumes(CODEC_GZIP, &b, LEN, 5003, &bits);
	}
	assert_int_equal(bits, 0xff); /* every bit position was met, or this proves little */
}

static void gzip_with_flushes(void **state)
{
	static const int flushes[] = {Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK};

	for (size_t i = 0; i < ARRAY_LEN(flushes); i++) {
		_cleanup_buf_ struct buf b;

		buf_init(&b, PACKING_MAX);
		packing_gzip(&b, plain, LEN, 6, 3333, flushes[i]);
		expect_all(CODEC_GZIP, &b, LEN);
	}
}

static void gzip_with_many_members(void **state)
{
	static const size_t sizes[] = {1, 0, 40000, 262144, 10007, 500000, 3, 0};
	_cleanup_buf_ struct buf b;
	size_t at = 0;

	buf_init(&b, PACKING_MAX);
	for (size_t i = 0; at < LEN; i++) {
		size_t n = sizes[i % ARRAY_LEN(sizes)];

		n = n < LEN - at ? n : LEN - at;
		packing_gzip(&b, plain + at, n, i % 2 ? 6 : 1, 0, 0);
		at += n;
	}
	packing_gzip(&b, "", 0, 6, 0, 0); /* eStargz ends in an empty member */
	expect_all(CODEC_GZIP, &b, LEN);
}

/* Blocks without content must not make us copy a window for each (or run for ever). */
static void gzip_of_empty_blocks(void **state)
{
	static const uint8_t empty_block[] = {0, 0, 0, 0xff, 0xff};
	_cleanup_buf_ struct buf b, head;

	buf_init(&b, PACKING_MAX);
	buf_init(&head, PACKING_MAX);
	packing_gzip(&head, plain, 100000, 6, 100000, 0);
	buf_put(&b, head.data, 10);
	for (size_t i = 0; i < 400000; i++)
		buf_put(&b, empty_block, sizeof(empty_block));
	buf_put(&b, head.data + 10, head.len - 10);
	expect_plain(CODEC_GZIP, &b, 100000);
	expect_resumes(CODEC_GZIP, &b, 100000, 10007, NULL);
}

static void gzip_header_with_everything(void **state)
{
	static const uint8_t head[] = {0x1f, 0x8b, 8,   4 | 8 | 16, 0,   0,   0,   0,
				       0,    3,    3,   0,          'x', 'y', 0,   'n',
				       'a',  'm',  'e', 0,          's', 'a', 'y', 0};
	_cleanup_buf_ struct buf b, body;

	buf_init(&b, PACKING_MAX);
	buf_init(&body, PACKING_MAX);
	packing_gzip(&body, plain, 50000, 6, 0, 0);
	buf_put(&b, head, sizeof(head));
	buf_put(&b, body.data + 10, body.len - 10);
	expect_all(CODEC_GZIP, &b, 50000);
}

static void gzip_damage_is_found(void **state)
{
	_cleanup_buf_ struct buf b;
	uint8_t *out = malloc(LEN);
	size_t len;

	buf_init(&b, PACKING_MAX);
	packing_gzip(&b, plain, 100000, 6, 0, 0);
	len = b.len;
	expect_failure(CODEC_GZIP, b.data, 0, -ENODATA, "first member");
	expect_failure(CODEC_GZIP, b.data, 5, -ENODATA, "ends at byte 5");
	expect_failure(CODEC_GZIP, b.data, len / 2, -ENODATA, "inside a member");
	expect_failure(CODEC_GZIP, b.data, len - 8, -ENODATA, "inside a member");
	expect_failure(CODEC_GZIP, b.data, len - 1, -ENODATA, "inside a member");

	buf_put(&b, "x", 1);
	expect_failure(CODEC_GZIP, b.data, b.len, -EBADMSG, "not a gzip member");
	b.len = len;
	buf_put(&b, b.data, 3);
	expect_failure(CODEC_GZIP, b.data, b.len, -ENODATA, "inside a member");
	b.len = len;
	buf_put_zeros(&b, 1000);
	expect_plain(CODEC_GZIP, &b, 100000);
	buf_put(&b, "x", 1);
	expect_failure(CODEC_GZIP, b.data, b.len, -EBADMSG, "not a gzip member");
	b.len = len;
	b.data[len - 5] ^= 1; /* CRC32 */
	expect_failure(CODEC_GZIP, b.data, len, -EBADMSG, "incorrect data check");
	assert_int_equal(
		decode(CODEC_GZIP, NULL, b.data, len, 100, &trusting, out, LEN, 1000, NULL),
		100000);
	b.data[len - 5] ^= 1;
	b.data[len - 1] ^= 1; /* ISIZE */
	expect_failure(CODEC_GZIP, b.data, len, -EBADMSG, "incorrect length check");
	b.data[len - 1] ^= 1;
	memset(b.data + len / 2, 0xff, 64);
	expect_failure(CODEC_GZIP, b.data, len, -EBADMSG, "gzip data is damaged at byte");
	free(out);
}

static void zstd_of_one_frame(void **state)
{
	static const int levels[] = {1, 3, 12};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		_cleanup_buf_ struct buf b;

		buf_init(&b, PACKING_MAX);
		packing_zstd(&b, plain, LEN, levels[i], i % 2);
		expect_plain(CODEC_ZSTD, &b, LEN);
		expect_resumes(CODEC_ZSTD, &b, LEN, 262144, NULL);
	}
}

static void zstd_of_many_frames(void **state)
{
	static const size_t sizes[] = {262144, 262144, 0, 1, 300000, 77};
	_cleanup_buf_ struct buf b;
	size_t at = 0;

	buf_init(&b, PACKING_MAX);
	packing_zstd_skippable(&b, 0, 0);
	for (size_t i = 0; at < LEN; i++) {
		size_t n = sizes[i % ARRAY_LEN(sizes)];

		n = n < LEN - at ? n : LEN - at;
		packing_zstd(&b, plain + at, n, 3, i % 2);
		if (i % 3 == 0)
			packing_zstd_skippable(&b, i % 16, i * 10000);
		at += n;
	}
	packing_zstd_skippable(&b, 0, 64);
	expect_all(CODEC_ZSTD, &b, LEN);
}

/* A frame that ends where a span does must not be decoded again for the next one. */
static void zstd_frame_borders_are_found(void **state)
{
	_cleanup_(decoder_freep) struct decoder *d = NULL;
	struct checkpoint *cp = malloc(sizeof(*cp));
	uint8_t *out = malloc(65536);
	_cleanup_buf_ struct buf b;
	struct drip s;

	buf_init(&b, PACKING_MAX);
	for (size_t at = 0; at < LEN; at += 65536)
		packing_zstd(&b, plain + at, 65536, 3, 1);
	s = drip_of(b.data, b.len, 1000);
	assert_int_equal(decoder_open(CODEC_ZSTD, NULL, &s.s, &tracking, &d, NULL), 0);
	for (size_t at = 0; at < LEN; at += 65536) {
		decoder_checkpoint(d, cp);
		assert_int_equal(cp->out, at);
		for (size_t got = 0; got < 65536;) {
			ssize_t r = decoder_read(d, out + got, 65536 - got, NULL);

			assert_true(r > 0);
			got += (size_t)r;
		}
	}
	free(out);
	free(cp);
}

static void zstd_damage_is_found(void **state)
{
	_cleanup_buf_ struct buf b;
	size_t len;

	buf_init(&b, PACKING_MAX);
	packing_zstd(&b, plain, 300000, 3, 1);
	len = b.len;
	expect_failure(CODEC_ZSTD, b.data, 0, -ENODATA, "first frame");
	expect_failure(CODEC_ZSTD, b.data, 3, -ENODATA, "header");
	expect_failure(CODEC_ZSTD, b.data, len / 2, -ENODATA, "inside a frame");
	expect_failure(CODEC_ZSTD, b.data, len - 1, -ENODATA, "inside a frame");
	buf_put(&b, "\x1f\x8b\x08\0", 4);
	expect_failure(CODEC_ZSTD, b.data, b.len, -EBADMSG, "not a zstd frame");
	b.len = len;
	buf_put(&b, "\x27\xb5\x2f\xfd\0\0\0\0\0\0", 10); /* the format of zstd 0.7 */
	expect_failure(CODEC_ZSTD, b.data, b.len, -EBADMSG, "not a zstd frame");
	b.len = len;
	buf_put_zeros(&b, 16);
	expect_failure(CODEC_ZSTD, b.data, b.len, -EBADMSG, "not a zstd frame");
	b.data[len - 1] ^= 1; /* checksum */
	expect_failure(CODEC_ZSTD, b.data, len, -EBADMSG, "zstd data is damaged at byte");
	b.data[len - 1] ^= 1;
	/* A window of 2^31: windowLog is 10 + the upper five bits of the byte after the magic. */
	expect_failure(CODEC_ZSTD, "\x28\xb5\x2f\xfd\x00\xa8\0\0\0\0\0\0", 12, -EBADMSG,
		       "too much memory");
}

static void checkpoints_that_make_no_sense(void **state)
{
	struct checkpoint *cp = calloc(1, sizeof(*cp));
	struct drip s = drip_of(plain, LEN, 100);
	struct decoder *d = NULL;
	struct err e = ERR_INIT;

	cp->bits = 3;
	assert_int_equal(decoder_open(CODEC_GZIP, cp, &s.s, &whole, &d, &e), -EINVAL);
	cp->in = 5;
	cp->bits = 8;
	assert_int_equal(decoder_open(CODEC_GZIP, cp, &s.s, &whole, &d, &e), -EINVAL);
	cp->bits = 0;
	cp->window_len = CODEC_WINDOW + 1;
	assert_int_equal(decoder_open(CODEC_GZIP, cp, &s.s, &whole, &d, &e), -EINVAL);
	cp->window_len = 1;
	cp->member = true;
	assert_int_equal(decoder_open(CODEC_GZIP, cp, &s.s, &whole, &d, &e), -EINVAL);
	cp->member = false;
	assert_int_equal(decoder_open(CODEC_ZSTD, cp, &s.s, &whole, &d, &e), -EINVAL);
	assert_int_equal(decoder_open(CODEC_RAW, cp, &s.s, &whole, &d, &e), -EINVAL);
	assert_int_equal(decoder_open(CODEC_COUNT, NULL, &s.s, &whole, &d, &e), -EINVAL);
	assert_null(d);
	free(cp);
}

/* The input's own failure comes through as it is. */
static void failures_of_the_input(void **state)
{
	static const enum codec_kind kinds[] = {CODEC_RAW, CODEC_GZIP, CODEC_ZSTD};
	uint8_t *out = malloc(LEN);

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		_cleanup_(decoder_freep) struct decoder *d = NULL;
		_cleanup_buf_ struct buf b;
		struct drip s;
		ssize_t r;

		buf_init(&b, PACKING_MAX);
		if (kinds[i] == CODEC_GZIP)
			packing_gzip(&b, plain, 1000, 6, 0, 0);
		else if (kinds[i] == CODEC_ZSTD)
			packing_zstd(&b, plain, 1000, 3, 0);
		else
			buf_put(&b, plain, 1000);
		s = drip_of(b.data, b.len, 10);
		s.code = -ETIMEDOUT;
		assert_int_equal(decoder_open(kinds[i], NULL, &s.s, &tracking, &d, NULL), 0);
		do
			r = decoder_read(d, out, LEN, NULL);
		while (r > 0);
		assert_int_equal(r, -ETIMEDOUT);
	}
	free(out);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sniffs_by_content),
		cmocka_unit_test(raw_is_what_it_is),
		cmocka_unit_test(gzip_of_every_level),
		cmocka_unit_test(gzip_with_flushes),
		cmocka_unit_test(gzip_with_many_members),
		cmocka_unit_test(gzip_of_empty_blocks),
		cmocka_unit_test(gzip_header_with_everything),
		cmocka_unit_test(gzip_damage_is_found),
		cmocka_unit_test(zstd_of_one_frame),
		cmocka_unit_test(zstd_of_many_frames),
		cmocka_unit_test(zstd_frame_borders_are_found),
		cmocka_unit_test(zstd_damage_is_found),
		cmocka_unit_test(checkpoints_that_make_no_sense),
		cmocka_unit_test(failures_of_the_input),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
