/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/index/blobmap.h"
#include "plugin/fill/plan.h"

#define SPAN (64u << 10)

/* A map whose span i starts from checkpoint point[i]; each checkpoint is at its first span. */
struct fixture {
	struct buf bytes;
	struct blobmap *map;
	const char *look; /* per span: '.' leave, 'a' absent, 'w' wanted */
};

static void make_map(struct fixture *x, const unsigned *point, uint32_t n)
{
	static struct checkpoint cp;
	struct digest blob = {{1}};
	_cleanup_(blobmap_builder_freep) struct blobmap_builder *b = NULL;

	buf_init(&x->bytes, 1u << 20);
	assert_int_equal(blobmap_builder_new(CODEC_ZSTD, SPAN, &b), 0);
	for (uint32_t i = 0; i < n; i++) {
		if (i == 0 || point[i] != point[i - 1]) {
			/* The point lies a bit before the span, as gzip's do. */
			cp.in = i * 1000;
			cp.out = i ? (uint64_t)i * SPAN - 10 : 0;
			cp.member = true;
		}
		assert_int_equal(blobmap_builder_add(b, &cp, (i + 1) * 1000 + 5), 0);
	}
	assert_int_equal(blobmap_builder_encode(b, &blob, n * 1000 + 100, &x->bytes), 0);
	assert_int_equal(blobmap_decode(x->bytes.data, x->bytes.len, "test", &x->map, NULL), 0);
}

static void free_map(struct fixture *x)
{
	blobmap_free(x->map);
	buf_free(&x->bytes);
}

static enum plan_span look(const void *ctx, uint32_t span)
{
	const struct fixture *x = ctx;

	assert_true(span < strlen(x->look));
	switch (x->look[span]) {
	case 'w':
		return PLAN_WANTED;
	case 'a':
		return PLAN_ABSENT;
	default:
		return PLAN_LEAVE;
	}
}

static void expect(const unsigned *point, const char *spans, uint32_t span, uint32_t max,
		   uint32_t first, uint32_t n)
{
	struct fixture x = {.look = spans};
	struct plan_run r;

	make_map(&x, point, (uint32_t)strlen(spans));
	plan_run(x.map, span, max, look, &x, &r);
	assert_int_equal(r.first, first);
	assert_int_equal(r.n, n);
	assert_int_equal(r.point, point[span]);
	assert_int_equal(r.in_start, blobmap_point_in(x.map, point[span]));
	assert_int_equal(r.in_end, (first + n) * 1000 + 5);
	free_map(&x);
}

static const unsigned own[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
static const unsigned one[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
static const unsigned two[] = {0, 0, 0, 0, 1, 1, 1, 2, 2, 2};

static void a_span_alone_is_a_run_of_its_own(void **state)
{
	expect(own, "aaawaaaaaa", 3, 4, 3, 1);
	expect(own, "wwwwww...w", 9, 4, 9, 1);
}

static void wanted_neighbours_are_merged_up_to_the_bound(void **state)
{
	expect(own, "..wwa.....", 2, 4, 2, 2);
	expect(own, "..wwwwwww.", 2, 4, 2, 4);
	expect(own, "..wwwwwww.", 2, 8, 2, 7);
	/* Those before it belong to another run: it would have to wait for them. */
	expect(own, "wwww......", 3, 4, 3, 1);
	expect(own, "ww........", 0, 1, 0, 1);
	expect(own, "wwwwwwwwww", 8, 4, 8, 2);
}

static void what_shares_a_point_is_streamed_in_one_run(void **state)
{
	expect(one, "aaaaawaaaa", 5, 4, 0, 10);
	expect(one, "aaaaawaa..", 5, 4, 0, 8);
	expect(one, "..........", 5, 1, 0, 6);
	expect(one, "wa......a.", 0, 4, 0, 9);
	/* A point inside the tar: its first span to its last. */
	expect(two, "aaaaaawaaa", 6, 4, 4, 3);
	expect(two, "aaaaawaaaa", 5, 1, 4, 3);
	/* The next frame's spans only as far as they are wanted and fit. */
	expect(two, "aaaawaawwa", 4, 4, 4, 4);
	expect(two, "aaaawaawwa", 4, 8, 4, 5);
}

static void backoff_doubles_up_to_two_seconds(void **state)
{
	static const uint32_t most[] = {100, 200, 400, 800, 1600, 2000, 2000};

	for (uint32_t i = 0; i < ARRAY_LEN(most); i++) {
		assert_int_equal(plan_backoff_ms(i + 1, 0), most[i] / 2);
		assert_int_equal(plan_backoff_ms(i + 1, most[i] / 2), most[i]);
		for (uint32_t r = 0; r < 5000; r += 7) {
			assert_true(plan_backoff_ms(i + 1, r) >= most[i] / 2);
			assert_true(plan_backoff_ms(i + 1, r) <= most[i]);
		}
	}
	assert_int_equal(plan_backoff_ms(UINT32_MAX, 0), 1000);
}

static void wrong_bytes_are_asked_for_seldom(void **state)
{
	static const uint32_t most[] = {1, 2, 4, 8, 16, 32, 60, 60};

	for (uint32_t i = 0; i < ARRAY_LEN(most); i++) {
		assert_int_equal(plan_wrong_ms(i + 1, 0, UINT32_MAX), most[i] * 500);
		assert_int_equal(plan_wrong_ms(i + 1, most[i] * 500, 120000), most[i] * 1000);
		/* Each reader sees an attempt. */
		assert_true(plan_wrong_ms(i + 1, UINT32_MAX, 1000) <= 500);
		assert_true(plan_wrong_ms(i + 1, UINT32_MAX, 30000) <= 15000);
	}
	assert_int_equal(plan_wrong_ms(UINT32_MAX, 0, UINT32_MAX), 30000);
}

static void jitter_keeps_hosts_out_of_step(void **state)
{
	uint64_t sum = 0;

	/* All of the random half is used, evenly. */
	for (uint32_t r = 0; r <= 1000; r++)
		sum += plan_backoff_ms(6, r);
	assert_int_equal(sum / 1001, 1500);
}

static void retry_after_is_kept_within_a_readers_patience(void **state)
{
	assert_int_equal(plan_retry_after_ms(0, 30000), 0);
	assert_int_equal(plan_retry_after_ms(7, 30000), 7000);
	assert_int_equal(plan_retry_after_ms(10, 30000), 10000);
	/* One more attempt before the end. */
	assert_int_equal(plan_retry_after_ms(30, 30000), 10000);
	assert_int_equal(plan_retry_after_ms(3600, 30000), 10000);
	assert_int_equal(plan_retry_after_ms(3600, 1000), 333);
	/* Who waits for ever looks again after a minute. */
	assert_int_equal(plan_retry_after_ms(3600, UINT32_MAX), 60000);
}

static void no_host_has_all_fetchers(void **state)
{
	static const uint32_t n[] = {0, 1, 2, 3, 4, 5, 8, 16, 256};
	static const uint32_t well[] = {1, 1, 1, 2, 3, 4, 6, 12, 192};
	static const uint32_t ill[] = {1, 1, 1, 1, 1, 1, 2, 2, 2};

	for (uint32_t i = 0; i < ARRAY_LEN(n); i++) {
		assert_int_equal(plan_host_cap(n[i], 0), well[i]);
		assert_int_equal(plan_host_cap(n[i], 1), ill[i]);
		assert_int_equal(plan_host_cap(n[i], UINT32_MAX), ill[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_span_alone_is_a_run_of_its_own),
		cmocka_unit_test(wanted_neighbours_are_merged_up_to_the_bound),
		cmocka_unit_test(what_shares_a_point_is_streamed_in_one_run),
		cmocka_unit_test(backoff_doubles_up_to_two_seconds),
		cmocka_unit_test(wrong_bytes_are_asked_for_seldom),
		cmocka_unit_test(jitter_keeps_hosts_out_of_step),
		cmocka_unit_test(retry_after_is_kept_within_a_readers_patience),
		cmocka_unit_test(no_host_has_all_fetchers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
