/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/blobmap.h"
#include "oci/index/build.h"
#include "oci/index/index.h"
#include "tests/unit/packing.h"
#include "tests/unit/tarmake.h"

#define SPAN    LIMIT_SPAN_MIN
#define TAR_LEN ((size_t)5 << 20)

static struct buf tar; /* some members, one of them most of the tar; not a multiple of SPAN */

static int setup(void **state)
{
	size_t len = TAR_LEN - 5000;
	uint8_t *data = malloc(len);

	assert_non_null(data);
	packing_fill(data, len, 3);
	buf_init(&tar, PACKING_MAX);
	tarmake_put(&tar, &(struct tarmake){.name = "dir/", .type = '5', .mode = 0755});
	tarmake_put(&tar, &(struct tarmake){
				  .name = "dir/small", .mode = 0644, .data = "hello", .size = 5});
	tarmake_put(&tar,
		    &(struct tarmake){.name = "dir/big", .mode = 0644, .data = data, .size = len});
	tarmake_put(&tar, &(struct tarmake){.name = "dir/last", .mode = 0644});
	tarmake_end(&tar);
	free(data);
	return 0;
}

static int teardown(void **state)
{
	buf_free(&tar);
	return 0;
}

struct result {
	struct buf toc, map, plain;
	struct buf digests;
	struct build_result r;
	uint32_t stop_at; /* the span at which the receiver refuses, if not 0 */
	uint32_t seen;
};

static void result_free(struct result *res)
{
	buf_free(&res->toc);
	buf_free(&res->map);
	buf_free(&res->plain);
	buf_free(&res->digests);
}

#define _result_ __attribute__((cleanup(result_free)))

static void result_init(struct result *res)
{
	memset(res, 0, sizeof(*res));
	buf_init(&res->toc, LIMIT_TOC);
	buf_init(&res->map, PACKING_MAX);
	buf_init(&res->plain, PACKING_MAX);
	buf_init(&res->digests, PACKING_MAX);
}

static int take_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct result *res = ctx;
	struct digest d;

	assert_int_equal(span, res->seen++);
	assert_in_range(len, 1, SPAN);
	assert_int_equal(res->plain.len % SPAN, 0);
	if (res->stop_at && span == res->stop_at)
		return err_set(e, -ENOSPC, "no room for span %u", span);
	buf_put(&res->plain, data, len);
	assert_int_equal(digest_of(data, len, &d), 0);
	return buf_put(&res->digests, d.sum, sizeof(d.sum));
}

/* Runs the pass over @len bytes at @blob that claim to be @size bytes with digest @want. */
static int build_claimed(const void *blob, size_t len, uint64_t size, const struct digest *want,
			 struct result *res, struct err *e)
{
	struct drip s = drip_of(blob, len, 30011);
	struct build_input in = {.blob = &s.s,
				 .what = "layer X",
				 .blob_size = size,
				 .blob_digest = *want,
				 .span_size = SPAN,
				 .span = take_span,
				 .ctx = res};

	return build_index(&in, &res->toc, &res->map, &res->r, e);
}

static int build(const struct buf *blob, struct result *res, struct err *e)
{
	struct digest d;

	assert_int_equal(blob->failed, 0);
	assert_int_equal(digest_of(blob->data, blob->len, &d), 0);
	return build_claimed(blob->data, blob->len, blob->len, &d, res, e);
}

/* Span @i from the blob's bytes [point_in, in_end) and nothing else. */
static void expect_span(const struct blobmap *m, uint32_t i, const struct buf *blob,
			const struct result *res)
{
	static const struct decoder_options opt = {0};
	struct blobmap_span sp = blobmap_span(m, i);
	uint64_t from = blobmap_point_in(m, sp.point);
	size_t skip = (size_t)i * SPAN - blobmap_point_out(m, sp.point);
	size_t want = res->plain.len - (size_t)i * SPAN, got = 0;
	_cleanup_(decoder_freep) struct decoder *d = NULL;
	struct checkpoint *cp = malloc(sizeof(*cp));
	struct err e = ERR_INIT;
	struct drip s;
	uint8_t *out;

	want = want < SPAN ? want : SPAN;
	out = malloc(skip + want);
	assert_true(from <= sp.in_end && sp.in_end <= blob->len);
	s = drip_of(blob->data + from, sp.in_end - from, 4001);
	assert_int_equal(blobmap_checkpoint(m, sp.point, cp), 0);
	assert_int_equal(cp->in - (cp->bits ? 1 : 0), from);
	assert_int_equal(decoder_open(blobmap_codec(m), cp, &s.s, &opt, &d, &e), 0);
	while (got < skip + want) {
		ssize_t r = decoder_read(d, out + got, skip + want - got, &e);

		if (r <= 0)
			print_message("span %u at %zu: %s\n", i, got, e.text);
		assert_true(r > 0);
		got += (size_t)r;
	}
	assert_memory_equal(out + skip, res->plain.data + (size_t)i * SPAN, want);
	free(out);
	free(cp);
}

/* The whole proof for one blob: the tar came out, and every span can be had on its own. */
static void expect_built(const struct buf *blob, enum codec_kind codec, const struct buf *want)
{
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	_result_ struct result res, again;
	struct err e = ERR_INIT;

	result_init(&res);
	result_init(&again);
	if (build(blob, &res, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(res.plain.len, want->len);
	assert_memory_equal(res.plain.data, want->data, want->len);
	assert_int_equal(res.r.tar_size, want->len);
	assert_int_equal(res.r.nspans, (want->len + SPAN - 1) / SPAN);

	if (blobmap_decode(res.map.data, res.map.len, "map", &m, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(blobmap_codec(m), codec);
	assert_int_equal(blobmap_blob_size(m), blob->len);
	assert_int_equal(blobmap_nspans(m), res.r.nspans);
	assert_int_equal(blobmap_span_size(m), SPAN);
	for (uint32_t i = 0; i < res.r.nspans; i++)
		expect_span(m, i, blob, &res);

	/* Same input, same bytes. */
	assert_int_equal(build(blob, &again, &e), 0);
	assert_int_equal(res.toc.len, again.toc.len);
	assert_memory_equal(res.toc.data, again.toc.data, res.toc.len);
	assert_int_equal(res.map.len, again.map.len);
	assert_memory_equal(res.map.data, again.map.data, res.map.len);
}

static void raw(void **state)
{
	expect_built(&tar, CODEC_RAW, &tar);
}

static void gzip_one_member(void **state)
{
	static const int levels[] = {0, 1, 6, 9};

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		_cleanup_buf_ struct buf b;

		buf_init(&b, PACKING_MAX);
		packing_gzip(&b, tar.data, tar.len, levels[i], 0, 0);
		expect_built(&b, CODEC_GZIP, &tar);
	}
}

static void gzip_full_flush(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, PACKING_MAX);
	packing_gzip(&b, tar.data, tar.len, 6, 20000, Z_FULL_FLUSH);
	expect_built(&b, CODEC_GZIP, &tar);
}

/* Members whose borders lie before, on and behind those of the spans. */
static void gzip_members(void **state)
{
	static const size_t sizes[] = {SPAN, SPAN, SPAN - 1, 2, SPAN - 1, 5 * SPAN, 100, 0, 3};
	_cleanup_buf_ struct buf b;
	size_t at = 0;

	buf_init(&b, PACKING_MAX);
	for (size_t i = 0; at < tar.len; i++) {
		size_t n = sizes[i % ARRAY_LEN(sizes)];

		n = n < tar.len - at ? n : tar.len - at;
		packing_gzip(&b, tar.data + at, n, i % 10, 0, 0);
		at += n;
	}
	expect_built(&b, CODEC_GZIP, &tar);
	buf_put_zeros(&b, 700);
	expect_built(&b, CODEC_GZIP, &tar);
}

static void zstd_one_frame(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, PACKING_MAX);
	packing_zstd(&b, tar.data, tar.len, 3, 1);
	expect_built(&b, CODEC_ZSTD, &tar);
}

static void zstd_frames(void **state)
{
	static const size_t sizes[] = {SPAN, SPAN, SPAN - 1, 2, SPAN - 1, 5 * SPAN, 100, 0, 3};
	_cleanup_buf_ struct buf b;
	size_t at = 0;

	buf_init(&b, PACKING_MAX);
	packing_zstd_skippable(&b, 3, 4);
	for (size_t i = 0; at < tar.len; i++) {
		size_t n = sizes[i % ARRAY_LEN(sizes)];

		n = n < tar.len - at ? n : tar.len - at;
		packing_zstd(&b, tar.data + at, n, 3, i % 2);
		if (i % 4 == 0)
			packing_zstd_skippable(&b, 14, i * 999);
		at += n;
	}
	packing_zstd_skippable(&b, 0, 64);
	expect_built(&b, CODEC_ZSTD, &tar);
}

/* What follows the end marker belongs to the tar, and to the spans. */
static void bytes_behind_the_end_marker(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, PACKING_MAX);
	buf_put(&b, tar.data, tar.len);
	buf_put_zeros(&b, 300000);
	buf_put(&b, "left over", 9);
	expect_built(&b, CODEC_RAW, &b);
	buf_put_zeros(&b, SPAN - b.len % SPAN); /* ends with a full span */
	expect_built(&b, CODEC_RAW, &b);
}

static void an_empty_tar(void **state)
{
	_cleanup_buf_ struct buf none, packed, zeros;

	buf_init(&none, PACKING_MAX);
	buf_init(&packed, PACKING_MAX);
	buf_init(&zeros, PACKING_MAX);
	expect_built(&none, CODEC_RAW, &none);
	packing_gzip(&packed, "", 0, 6, 0, 0);
	expect_built(&packed, CODEC_GZIP, &none);
	tarmake_end(&zeros);
	expect_built(&zeros, CODEC_RAW, &zeros);
}

static void expect_refused(const struct buf *blob, int code, const char *text)
{
	_result_ struct result res;
	struct err e = ERR_INIT;

	result_init(&res);
	assert_int_equal(build(blob, &res, &e), code);
	if (!strstr(e.text, text))
		fail_msg("'%s' not in '%s'", text, e.text);
	assert_int_equal(strncmp(e.text, "layer X: ", 9), 0);
	assert_int_equal(e.code, code);
}

static void damaged_blobs(void **state)
{
	_cleanup_buf_ struct buf b;
	size_t len;

	buf_init(&b, PACKING_MAX);
	packing_gzip(&b, tar.data, tar.len, 6, 0, 0);
	len = b.len;
	b.len = len / 2;
	expect_refused(&b, -EBADMSG, "gzip data ends at byte");
	b.len = len;
	b.data[len - 5] ^= 1;
	expect_refused(&b, -EBADMSG, "gzip data is damaged at byte");
	b.len = 0;
	packing_gzip(&b, tar.data, tar.len, 6, 0, 0);
	buf_put(&b, "garbage", 7);
	expect_refused(&b, -EBADMSG, "not a gzip member");
	b.len = 0;
	buf_put(&b, tar.data, tar.len / 2);
	expect_refused(&b, -EBADMSG, "dir/big");
	b.len = 0;
	buf_put_str(&b, "<html>no layer here</html>");
	expect_refused(&b, -EBADMSG, "this is no tar");
}

static void a_blob_that_is_not_the_promised_one(void **state)
{
	_result_ struct result res;
	struct err e = ERR_INIT;
	struct digest d;
	uint8_t *bad;

	assert_int_equal(digest_of(tar.data, tar.len, &d), 0);
	result_init(&res);
	assert_int_equal(build_claimed(tar.data, tar.len, tar.len - 1, &d, &res, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "the blob is longer than its"));
	result_free(&res);
	result_init(&res);
	assert_int_equal(build_claimed(tar.data, tar.len, tar.len + 1, &d, &res, &e), -ENODATA);
	assert_non_null(strstr(e.text, "layer X: the blob ends after"));
	result_free(&res);
	result_init(&res);
	d.sum[31] ^= 1;
	assert_int_equal(build_claimed(tar.data, tar.len, tar.len, &d, &res, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "and should be sha256:"));
	/* Damage on the way is told from a bad layer, wherever it shows. */
	bad = malloc(tar.len);
	memcpy(bad, tar.data, tar.len);
	bad[20] ^= 1;
	d.sum[31] ^= 1;
	result_free(&res);
	result_init(&res);
	assert_int_equal(build_claimed(bad, tar.len, tar.len, &d, &res, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "and should be sha256:"));
	free(bad);
}

static void failures_of_the_stream_keep_their_words(void **state)
{
	struct build_input in = {.what = "layer X", .span_size = SPAN, .span = take_span};
	_result_ struct result res;
	struct err e = ERR_INIT;
	struct drip s;

	result_init(&res);
	s = drip_of(tar.data, tar.len / 2, 1000);
	s.code = -ETIMEDOUT;
	in.blob = &s.s;
	in.blob_size = tar.len;
	in.ctx = &res;
	assert_int_equal(build_index(&in, &res.toc, &res.map, &res.r, &e), -ETIMEDOUT);
	assert_string_equal(e.text, "layer X: Connection timed out");
}

static void the_receiver_can_stop_the_pass(void **state)
{
	_result_ struct result res;
	struct err e = ERR_INIT;

	result_init(&res);
	res.stop_at = 7;
	assert_int_equal(build(&tar, &res, &e), -ENOSPC);
	assert_string_equal(e.text, "no room for span 7");
	assert_int_equal(res.seen, 8);
}

static void span_sizes(void **state)
{
	struct drip s = drip_of(tar.data, tar.len, 1000);
	struct build_input in = {.blob = &s.s, .what = "layer X", .blob_size = tar.len};
	_result_ struct result res;
	struct err e = ERR_INIT;

	result_init(&res);
	in.span_size = 100000;
	assert_int_equal(build_index(&in, &res.toc, &res.map, &res.r, &e), -EINVAL);
	assert_int_equal(index_span_size(0), 1u << 20);
	assert_int_equal(index_span_size((64u << 20) - 1), 1u << 20);
	assert_int_equal(index_span_size(64u << 20), 2u << 20);
	assert_int_equal(index_span_size((1u << 30) - 1), 2u << 20);
	assert_int_equal(index_span_size(1u << 30), 4u << 20);
	assert_int_equal(index_span_size(UINT64_MAX), 4u << 20);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(raw),
		cmocka_unit_test(gzip_one_member),
		cmocka_unit_test(gzip_full_flush),
		cmocka_unit_test(gzip_members),
		cmocka_unit_test(zstd_one_frame),
		cmocka_unit_test(zstd_frames),
		cmocka_unit_test(bytes_behind_the_end_marker),
		cmocka_unit_test(an_empty_tar),
		cmocka_unit_test(damaged_blobs),
		cmocka_unit_test(a_blob_that_is_not_the_promised_one),
		cmocka_unit_test(failures_of_the_stream_keep_their_words),
		cmocka_unit_test(the_receiver_can_stop_the_pass),
		cmocka_unit_test(span_sizes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
