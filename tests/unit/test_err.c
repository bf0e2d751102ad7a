/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
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

/* The chain as one string, "a|b|c". */
static const char *chain(const struct err *e)
{
	static char out[2 * ERR_TEXT_MAX];
	char link[ERR_TEXT_MAX];
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < err_nlinks(e); i++)
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%s", i ? "|" : "",
					err_link(e, i, link));
	return out;
}

static void the_links_are_remembered(void **state)
{
	struct err e = ERR_INIT;

	assert_int_equal(err_nlinks(&e), 0);
	err_errno(&e, -ENOENT, "open: %s", "/a: b");
	err_wrap(&e, -EIO, "layer %d: index", 3);
	err_wrap(&e, -EIO, "image");
	assert_string_equal(e.text,
			    "image: layer 3: index: open: /a: b: No such file or directory");
	assert_string_equal(chain(&e),
			    "image|layer 3: index|open: /a: b|No such file or directory");
	assert_int_equal(e.links.cause, ENOENT);
	assert_string_equal(err_name(e.links.cause), "ENOENT");
	err_set(&e, -ENOENT, "no such image: x");
	assert_string_equal(chain(&e), "no such image: x");
	assert_int_equal(e.links.cause, 0);
	err_wrap(memset(&e, 0, sizeof(e)), -ENOSPC, "pull");
	assert_string_equal(chain(&e), "pull|No space left on device");
	assert_int_equal(e.links.cause, ENOSPC);
	err_errno(&e, -EIO, "%s", "");
	assert_string_equal(chain(&e), "Input/output error");
}

static void no_context_is_said_twice(void **state)
{
	struct err e = ERR_INIT;

	err_set(&e, -EINVAL, "index.json: not JSON");
	err_wrap(&e, -EINVAL, "index.json");
	assert_string_equal(e.text, "index.json: not JSON");
	err_wrap(&e, -EINVAL, "image");
	err_wrap(&e, -EINVAL, "image");
	err_wrap(&e, -EINVAL, "index");
	assert_string_equal(e.text, "index: image: index.json: not JSON");
	assert_string_equal(chain(&e), "index|image|index.json: not JSON");
}

static void a_long_chain_keeps_its_inner_links(void **state)
{
	struct err e = ERR_INIT;

	err_set(&e, -EIO, "0");
	for (int i = 1; i <= ERR_LINKS_MAX; i++)
		err_wrap(&e, -EIO, "%d", i);
	assert_int_equal(err_nlinks(&e), ERR_LINKS_MAX);
	assert_string_equal(chain(&e), "8: 7|6|5|4|3|2|1|0");
}

static void links_go_with_the_end_of_the_text(void **state)
{
	char big[ERR_TEXT_MAX];
	struct err e = ERR_INIT;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_errno(&e, -EIO, "a");
	err_wrap(&e, -EIO, "%s", big);
	assert_int_equal(err_nlinks(&e), 1);
	assert_int_equal(e.links.cause, 0);
	assert_string_equal(chain(&e), big);
}

static void what_was_taken_over_keeps_its_links(void **state)
{
	struct err_links bad = {.n = 1, .at = {4}};
	struct err from = ERR_INIT, e = ERR_INIT;
	char cut[17];

	err_errno(&from, -ENOENT, "inner");
	err_wrap(&from, -EIO, "outer");
	assert_int_equal(err_take(&e, -EIO, from.text, &from.links), -EIO);
	assert_int_equal(e.code, -EIO);
	assert_string_equal(chain(&e), "outer|inner|No such file or directory");
	assert_int_equal(e.links.cause, ENOENT);
	assert_int_equal(err_take(NULL, -EIO, from.text, &from.links), -EIO);

	/* Where a message has less room. */
	memcpy(cut, from.text, sizeof(cut) - 1);
	cut[sizeof(cut) - 1] = '\0';
	err_take(&e, -EIO, cut, &from.links);
	assert_string_equal(chain(&e), "outer|inner|No");

	/* From one who lies: the text counts, whatever the links are. */
	err_take(&e, -EIO, "outer: inner", &bad);
	assert_string_equal(chain(&e), "outer: inner");
	bad = (struct err_links){.n = 60000, .at = {7}};
	err_take(&e, -EIO, "outer: inner", &bad);
	assert_string_equal(chain(&e), "outer: inner");
	bad = (struct err_links){.n = 2, .at = {60000, 7}};
	err_take(&e, -EIO, "outer: inner", &bad);
	assert_string_equal(chain(&e), "outer: inner");
	bad = (struct err_links){.n = 1, .at = {0}};
	err_take(&e, -EIO, "outer: inner", &bad);
	assert_string_equal(chain(&e), "outer: inner");
	err_take(&e, -EPERM, "", &bad);
	assert_string_equal(chain(&e), "Operation not permitted");
	assert_int_equal(e.links.cause, EPERM);
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
		cmocka_unit_test(the_links_are_remembered),
		cmocka_unit_test(no_context_is_said_twice),
		cmocka_unit_test(a_long_chain_keeps_its_inner_links),
		cmocka_unit_test(links_go_with_the_end_of_the_text),
		cmocka_unit_test(what_was_taken_over_keeps_its_links),
		cmocka_unit_test(words_take_either_sign),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
