/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/erofs/crc32c.h"
#include "plugin/store/layer.h"
#include "plugin/store/pages.h"

#define SPAN (64u << 10)

static void expect_spans(uint64_t off, uint64_t len, uint32_t first, uint32_t last)
{
	struct layer l = {.index = {.nspans = 5, .span_size = SPAN, .tar_size = 4 * SPAN + 512}};
	uint32_t f = 99, e = 99;

	layer_spans_of(&l, off, len, &f, &e);
	assert_int_equal(f, first);
	assert_int_equal(e, last);
}

static void ranges_are_rounded_out_to_spans(void **state)
{
	expect_spans(0, 1, 0, 0);
	expect_spans(0, SPAN, 0, 0);
	expect_spans(0, SPAN + 1, 0, 1);
	expect_spans(SPAN - 1, 2, 0, 1);
	expect_spans(SPAN, SPAN, 1, 1);
	expect_spans(3 * SPAN + 5, 0, 3, 3);
	expect_spans(4 * SPAN, 4096, 4, 4);
	/* What lies behind the end belongs to the last one. */
	expect_spans(2 * SPAN, 100 * SPAN, 2, 4);
	expect_spans(100 * SPAN, 1, 4, 4);
	expect_spans(UINT64_MAX - 10, 100, 4, 4);
	expect_spans(SPAN, UINT64_MAX, 1, 4);
}

static void make_layer(struct layer *l)
{
	memset(l, 0, sizeof(*l));
	l->index.nspans = 4;
	l->index.span_size = SPAN;
	l->index.tar_size = 4 * SPAN;
	assert_int_equal(layer_spans_new(l), 0);
	assert_int_equal(l->nabsent, 4);
}

static void *make_pages(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void expect_counts(const struct layer *l, uint32_t absent, uint32_t busy, uint32_t dirty,
			  uint32_t clean)
{
	assert_int_equal(l->nabsent, absent);
	assert_int_equal(l->nbusy, busy);
	assert_int_equal(l->ndirty, dirty);
	assert_int_equal(l->nclean, clean);
}

static void states_are_counted(void **state)
{
	struct layer l;

	make_layer(&l);
	span_set(&l, 0, SPAN_QUEUED);
	span_set(&l, 1, SPAN_UNPROVEN);
	expect_counts(&l, 2, 1, 0, 0);
	span_set(&l, 1, SPAN_CHECKING);
	expect_counts(&l, 2, 2, 0, 0);
	span_set(&l, 0, SPAN_DIRTY);
	span_set(&l, 1, SPAN_DIRTY);
	expect_counts(&l, 2, 0, 2, 0);
	span_set(&l, 0, SPAN_CLEAN);
	expect_counts(&l, 2, 0, 1, 1);
	span_set(&l, 0, SPAN_PARKED);
	expect_counts(&l, 2, 0, 1, 0);
	span_set(&l, 0, SPAN_ABSENT);
	expect_counts(&l, 3, 0, 1, 0);
	assert_int_equal(l.changes, 8);
	layer_spans_free(&l);
	assert_null(l.spans);
	layer_spans_free(&l);
}

static void a_dirty_span_keeps_its_sums_and_epoch_while_parked(void **state)
{
	struct layer l;

	make_layer(&l);
	l.epoch = 7;
	l.spans[2].page_crc = malloc(4);
	span_set(&l, 2, SPAN_DIRTY);
	assert_int_equal(l.spans[2].epoch, 7);
	l.epoch = 9;
	span_set(&l, 2, SPAN_PARKED);
	assert_int_equal(l.spans[2].before, SPAN_DIRTY);
	assert_non_null(l.spans[2].page_crc);
	span_set(&l, 2, SPAN_DIRTY);
	assert_int_equal(l.spans[2].epoch, 7);
	assert_non_null(l.spans[2].page_crc);
	span_set(&l, 2, SPAN_CLEAN);
	assert_null(l.spans[2].page_crc);
	layer_spans_free(&l);
}

/* A sanitizer would tell of what stays behind. */
static void pages_are_held_until_they_are_durable(void **state)
{
	static const enum span_state over[] = {SPAN_CLEAN, SPAN_ABSENT, SPAN_QUEUED};
	struct layer l;

	make_layer(&l);
	l.spans[2].held = make_pages(index_span_len(&l.index, 2));
	span_set(&l, 2, SPAN_DIRTY);
	span_set(&l, 2, SPAN_PARKED);
	span_set(&l, 2, SPAN_UNPROVEN);
	span_set(&l, 2, SPAN_CHECKING);
	span_set(&l, 2, SPAN_DIRTY);
	assert_non_null(l.spans[2].held);
	for (size_t i = 0; i < ARRAY_LEN(over); i++) {
		span_set(&l, 2, over[i]);
		assert_null(l.spans[2].held);
		l.spans[2].held = make_pages(index_span_len(&l.index, 2));
		span_set(&l, 2, SPAN_DIRTY);
	}
	layer_spans_free(&l);
}

static bool in_cache(int fd)
{
	unsigned char there[4] = {0};
	void *p = mmap(NULL, sizeof(there) * 4096, PROT_READ, MAP_SHARED, fd, 0);

	assert_int_equal(mincore(p, sizeof(there) * 4096, there), 0);
	munmap(p, sizeof(there) * 4096);
	return there[0] & there[1] & there[2] & there[3] & 1;
}

static void held_pages_stay_in_the_cache(void **state)
{
	static uint8_t data[4 * 4096];
	char name[] = "/var/tmp/test-span.XXXXXX";
	int fd = mkstemp(name);
	void *held;

	unlink(name);
	memset(data, 'x', sizeof(data));
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	held = pages_hold(fd, 0, sizeof(data));
	assert_non_null(held);
	fdatasync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	assert_true(in_cache(fd));
	assert_null(pages_let_go(held, sizeof(data)));
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	assert_false(in_cache(fd));
	close(fd);
	assert_null(pages_hold(fd, 0, 4096));
	assert_null(pages_let_go(NULL, 4096));
}

/* However the CPU computes them, they are crc32c (RFC 3720 B.4: 32 zero bytes, 32 ff bytes). */
static void page_sums_are_crc32c(void **state)
{
	static uint8_t data[3 * PAGE_BYTES + 77];
	uint32_t sums[4];

	assert_int_equal(~page_crc(data, 32), 0x8a9136aau);
	memset(data, 0xff, 32);
	assert_int_equal(~page_crc(data, 32), 0x62a8ab43u);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i >> 3);
	assert_int_equal(pages_count(sizeof(data)), 4);
	assert_int_equal(pages_count(PAGE_BYTES), 1);
	pages_crc(data, sizeof(data), sums);
	for (size_t i = 0; i < 4; i++) {
		size_t len = i < 3 ? PAGE_BYTES : 77;

		assert_int_equal(sums[i], crc32c(CRC32C_INIT, data + i * PAGE_BYTES, len));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_are_rounded_out_to_spans),
		cmocka_unit_test(states_are_counted),
		cmocka_unit_test(a_dirty_span_keeps_its_sums_and_epoch_while_parked),
		cmocka_unit_test(pages_are_held_until_they_are_durable),
		cmocka_unit_test(held_pages_stay_in_the_cache),
		cmocka_unit_test(page_sums_are_crc32c),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
