/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/bytes.h"

static void reads_little_endian(void **state)
{
	static const uint8_t in[] = {
		0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
		0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x81,
	};
	struct bytes b = bytes_of(in, sizeof(in));

	assert_int_equal(bytes_u8(&b), 0x01);
	assert_int_equal(bytes_le16(&b), 0x4523);
	assert_true(bytes_le32(&b) == 0xcdab8967);
	assert_int_equal(b.left, 8);
	assert_true(bytes_le64(&b) == 0x8123456789abcdef);
	assert_int_equal(b.left, 0);
	assert_true(bytes_ok(&b));
}

static void a_short_read_is_sticky(void **state)
{
	static const uint8_t in[] = {1, 2, 3};
	struct bytes b = bytes_of(in, sizeof(in));

	assert_int_equal(bytes_le32(&b), 0);
	assert_false(bytes_ok(&b));
	assert_int_equal(b.left, 0);
	assert_int_equal(bytes_u8(&b), 0);
	assert_null(bytes_take(&b, 0));
}

static void a_short_copy_gives_zeros(void **state)
{
	struct bytes b = bytes_of("ab", 2);
	char out[4] = "xxx";

	bytes_copy(&b, out, 3);
	assert_memory_equal(out, "\0\0\0", 4);
	assert_false(bytes_ok(&b));
}

static void take_to_the_very_end(void **state)
{
	static const char in[] = "abc";
	struct bytes b = bytes_of(in, 3);

	assert_ptr_equal(bytes_take(&b, 3), in);
	assert_non_null(bytes_take(&b, 0));
	assert_true(bytes_ok(&b));
	assert_null(bytes_take(&b, 1));
	assert_false(bytes_ok(&b));
}

static void a_huge_length_does_not_wrap(void **state)
{
	struct bytes b = bytes_of("abc", 3);

	assert_null(bytes_take(&b, SIZE_MAX));
	assert_false(bytes_ok(&b));
}

static void checked_arithmetic(void **state)
{
	uint64_t v = 7;

	assert_true(add_ok(UINT64_MAX - 1, 1, &v));
	assert_true(v == UINT64_MAX);
	assert_false(add_ok(UINT64_MAX, 1, &v));
	assert_true(mul_ok(UINT32_MAX, UINT32_MAX, &v));
	assert_true(v == (uint64_t)UINT32_MAX * UINT32_MAX);
	assert_false(mul_ok(UINT64_MAX / 2 + 1, 2, &v));
}

static void rounding(void **state)
{
	assert_int_equal(round_up(0, 512), 0);
	assert_int_equal(round_up(1, 512), 512);
	assert_int_equal(round_up(512, 512), 512);
	assert_int_equal(round_down(511, 512), 0);
	assert_int_equal(round_down(1025, 512), 1024);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_little_endian),
		cmocka_unit_test(a_short_read_is_sticky),
		cmocka_unit_test(a_short_copy_gives_zeros),
		cmocka_unit_test(take_to_the_very_end),
		cmocka_unit_test(a_huge_length_does_not_wrap),
		cmocka_unit_test(checked_arithmetic),
		cmocka_unit_test(rounding),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
