/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/err.h"

static void set_keeps_code_and_text(void **state)
{
	struct err e = ERR_INIT;

	assert_int_equal(err_set(&e, -EINVAL, "bad name '%s'", "x"), -EINVAL);
	assert_int_equal(e.code, -EINVAL);
	assert_string_equal(e.text, "bad name 'x'");
}

static void errno_appends_words(void **state)
{
	struct err e = ERR_INIT;

	assert_int_equal(err_errno(&e, -ENOENT, "cannot open '%s'", "/a"), -ENOENT);
	assert_string_equal(e.text, "cannot open '/a': No such file or directory");
}

static void wrap_puts_context_in_front(void **state)
{
	struct err e = ERR_INIT;

	err_set(&e, -EINVAL, "inner");
	assert_int_equal(err_wrap(&e, -EIO, "layer %d", 3), -EINVAL);
	assert_string_equal(e.text, "layer 3: inner");
	err_wrap(&e, -EIO, "image");
	assert_string_equal(e.text, "image: layer 3: inner");
	assert_int_equal(e.code, -EINVAL);
}

static void wrap_of_nothing_uses_the_code(void **state)
{
	struct err e = ERR_INIT;

	assert_int_equal(err_wrap(&e, -ENOSPC, "pull"), -ENOSPC);
	assert_string_equal(e.text, "pull: No space left on device");
}

static void null_is_accepted(void **state)
{
	assert_int_equal(err_set(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -ENOMEM, "x"), -ENOMEM);
}

static void a_failure_never_reads_as_success(void **state)
{
	struct err e = ERR_INIT;

	assert_int_equal(err_set(&e, 0, "x"), -EIO);
	assert_int_equal(err_set(&e, EPERM, "x"), -EPERM);
	assert_int_equal(e.code, -EPERM);
	assert_int_equal(err_set(&e, -EPERM, "%s", ""), -EPERM);
	assert_string_equal(e.text, "Operation not permitted");
}

static void the_text_is_one_harmless_line(void **state)
{
	struct err e = ERR_INIT;

	err_set(&e, -EINVAL, "a\nb\033[2Jc\r\n\n");
	assert_string_equal(e.text, "a b?[2Jc");
}

static void the_own_text_may_be_an_argument(void **state)
{
	struct err e = ERR_INIT;

	err_set(&e, -EINVAL, "inner");
	err_set(&e, e.code, "outer (%s)", e.text);
	assert_string_equal(e.text, "outer (inner)");
}

static void long_text_is_cut_at_the_end(void **state)
{
	char big[2 * ERR_TEXT_MAX];
	struct err e = ERR_INIT;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_errno(&e, -EIO, "%s", big);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_wrap(&e, -EIO, "front");
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_memory_equal(e.text, "front: xxx", 10);
	err_wrap(&e, -EIO, "%s", big);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	assert_memory_equal(e.text, "xxx", 3);
}

static void words_take_either_sign(void **state)
{
	assert_string_equal(err_words(-EINVAL), "Invalid argument");
	assert_string_equal(err_words(EINVAL), "Invalid argument");
	assert_string_equal(err_words(-99999), "Unknown error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_keeps_code_and_text),
		cmocka_unit_test(errno_appends_words),
		cmocka_unit_test(wrap_puts_context_in_front),
		cmocka_unit_test(wrap_of_nothing_uses_the_code),
		cmocka_unit_test(null_is_accepted),
		cmocka_unit_test(a_failure_never_reads_as_success),
		cmocka_unit_test(the_text_is_one_harmless_line),
		cmocka_unit_test(the_own_text_may_be_an_argument),
		cmocka_unit_test(long_text_is_cut_at_the_end),
		cmocka_unit_test(words_take_either_sign),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
