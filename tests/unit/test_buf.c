/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"

/* Under ASan a malloc that can not be served is to fail, as it does without. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void puts_append(void **state)
{
	static const uint8_t want[] = {
		'a',  'b',  'c',  0x11, 0x22, 0x11, 0x44, 0x33, 0x22,
		0x11, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
	};
	_cleanup_buf_ struct buf b;

	buf_init(&b, 100);
	assert_int_equal(buf_put_str(&b, "ab"), 0);
	assert_int_equal(buf_put(&b, "c", 1), 0);
	assert_int_equal(buf_put_u8(&b, 0x11), 0);
	assert_int_equal(buf_put_le16(&b, 0x1122), 0);
	assert_int_equal(buf_put_le32(&b, 0x11223344), 0);
	assert_int_equal(buf_put_le64(&b, 0x1122334455667788), 0);
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
}

static void an_empty_put_is_fine(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 0);
	assert_int_equal(buf_put(&b, NULL, 0), 0);
	assert_int_equal(buf_put_zeros(&b, 0), 0);
	assert_string_equal(buf_cstr(&b), "");
	assert_int_equal(buf_put_u8(&b, 1), -EFBIG);
}

static void the_maximum_is_exact_and_sticky(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 5);
	assert_int_equal(buf_put(&b, "12345", 5), 0);
	assert_string_equal(buf_cstr(&b), "12345");
	assert_int_equal(buf_put(&b, "6", 1), -EFBIG);
	assert_int_equal(buf_put(&b, "", 0), -EFBIG);
	assert_null(buf_cstr(&b));
	assert_null(buf_reserve(&b, 0));
	assert_int_equal(buf_printf(&b, "x"), -EFBIG);
	assert_int_equal(b.len, 5);
	buf_clear(&b);
	assert_int_equal(buf_put(&b, "6", 1), 0);
	assert_string_equal(buf_cstr(&b), "6");
}

static void a_put_that_does_not_fit_writes_nothing(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 5);
	assert_int_equal(buf_put(&b, "123", 3), 0);
	assert_int_equal(buf_put(&b, "456", 3), -EFBIG);
	assert_int_equal(b.len, 3);
}

static void huge_sizes_do_not_wrap(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, SIZE_MAX);
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_int_equal(b.failed, -EFBIG);
	buf_clear(&b);
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_int_equal(b.failed, -EFBIG);
	buf_clear(&b);
	/* More than any allocator gives: the failure is a code, and what was there stays. */
	assert_int_equal(buf_put(&b, "abc", 3), 0);
	assert_null(buf_reserve(&b, SIZE_MAX / 2 + 1));
	assert_int_equal(b.failed, -ENOMEM);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "abc", 3);
}

static void growth_never_passes_the_maximum(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(buf_put_u8(&b, (uint8_t)i), 0);
	assert_true(b.cap <= 1001);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(b.data[i], (uint8_t)i);
	assert_int_equal(buf_put_u8(&b, 0), -EFBIG);
}

static void padding(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 100);
	assert_int_equal(buf_pad_to(&b, 8), 0);
	assert_int_equal(b.len, 0);
	buf_put_u8(&b, 0xff);
	assert_int_equal(buf_pad_to(&b, 8), 0);
	assert_int_equal(b.len, 8);
	assert_memory_equal(b.data, "\xff\0\0\0\0\0\0\0", 8);
	assert_int_equal(buf_pad_to(&b, 8), 0);
	assert_int_equal(b.len, 8);
	assert_int_equal(buf_pad_to(&b, 512), -EFBIG);
}

static void printf_appends_and_knows_the_maximum(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 10);
	assert_int_equal(buf_printf(&b, "%d-%s", 12, "ab"), 0);
	assert_string_equal(buf_cstr(&b), "12-ab");
	assert_int_equal(buf_printf(&b, "%s", "01234"), 0);
	assert_string_equal(buf_cstr(&b), "12-ab01234");
	assert_int_equal(buf_printf(&b, "%c", '!'), -EFBIG);
}

static void reserve_and_commit(void **state)
{
	_cleanup_buf_ struct buf b;
	void *p;

	buf_init(&b, 300);
	p = buf_reserve(&b, 200);
	assert_non_null(p);
	memset(p, 'x', 200);
	assert_int_equal(b.len, 0);
	buf_commit(&b, 150);
	assert_int_equal(b.len, 150);
	assert_int_equal(strlen(buf_cstr(&b)), 150);
	/* More than there is room for would be read past the end one day. */
	buf_commit(&b, 10000);
	assert_int_equal(b.failed, -EFBIG);
	assert_int_equal(b.len, 150);
}

static void free_leaves_a_usable_buffer(void **state)
{
	struct buf b;

	buf_init(&b, 3);
	buf_put_str(&b, "abcd");
	assert_int_equal(b.failed, -EFBIG);
	buf_free(&b);
	assert_null(b.data);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.max, 3);
	assert_int_equal(buf_put_str(&b, "abc"), 0);
	buf_free(&b);
	buf_free(&b);
	buf_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(puts_append),
		cmocka_unit_test(an_empty_put_is_fine),
		cmocka_unit_test(the_maximum_is_exact_and_sticky),
		cmocka_unit_test(a_put_that_does_not_fit_writes_nothing),
		cmocka_unit_test(huge_sizes_do_not_wrap),
		cmocka_unit_test(growth_never_passes_the_maximum),
		cmocka_unit_test(padding),
		cmocka_unit_test(printf_appends_and_knows_the_maximum),
		cmocka_unit_test(reserve_and_commit),
		cmocka_unit_test(free_leaves_a_usable_buffer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
