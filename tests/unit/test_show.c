/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/ref.h"

/* The command line is in no archive; what it is made of is tested as it is. */
#include "plugin/cli/columns.c"
#include "plugin/cli/progress.c"
#include "plugin/cli/show.c"
#include "tests/unit/output.h"
#include "tests/unit/scratch.h"

static struct output out, err;

/* --- what people see --- */

static void check_size(uint64_t n, const char *want)
{
	char text[SHOW_MAX];

	assert_string_equal(show_size(n, text), want);
}

static void sizes(void **state)
{
	check_size(0, "0");
	check_size(1023, "1023");
	check_size(1024, "1.0K");
	check_size(1536, "1.5K");
	check_size(12 * 1024 + 300, "12.3K");
	check_size((1 << 20) - 1, "1.0M");
	check_size(1 << 20, "1.0M");
	check_size((1ull << 30) - 1, "1.0G");
	check_size(5ull << 40, "5.0T");
	check_size(UINT64_MAX, "16.0E");
}

static void times(void **state)
{
	char text[SHOW_MAX];

	assert_string_equal(show_time(0, text), "0s");
	assert_string_equal(show_time(59, text), "59s");
	assert_string_equal(show_time(312, text), "5m 12s");
	assert_string_equal(show_time(7500, text), "2h 5m");
	assert_string_equal(show_time(4 * 86400 + 7300, text), "4d 2h");
}

static void digests_are_cut(void **state)
{
	char text[SHOW_MAX];

	assert_string_equal(show_digest("sha256:0123456789abcdef0123", text),
			    "sha256:0123456789ab");
	assert_string_equal(show_digest("short", text), "short");
	assert_int_equal(strlen(show_digest("a name that is much longer than that", text)),
			 SHOW_MAX - 1);
}

static const char *printed(struct table *t)
{
	output_begin(&out, STDOUT_FILENO);
	table_print(t);
	output_end(&out);
	table_free(t);
	return out.text;
}

static void columns_are_aligned(void **state)
{
	struct table *t = table_new("NAME|>SIZE|STATE");

	table_cell(t, "a");
	table_size(t, 1024);
	table_cell(t, "lazy");
	table_cell(t, "much longer");
	table_size(t, 5);
	table_cell(t, "complete");
	assert_string_equal(printed(t), "NAME         SIZE  STATE\n"
					"a            1.0K  lazy\n"
					"much longer     5  complete\n");
}

static void width_is_counted_in_characters(void **state)
{
	struct table *t = table_new("N|X");

	table_cell(t, "\xc3\xa9\xc3\xa9\xc3\xa9");
	table_cell(t, "1");
	table_cell(t, "abc");
	table_cell(t, "2");
	assert_string_equal(printed(t), "N    X\n\xc3\xa9\xc3\xa9\xc3\xa9  1\nabc  2\n");
}

static void table_without_rows_is_not_printed(void **state)
{
	assert_string_equal(printed(table_new("A|B")), "");
}

static void names_cannot_steer_the_terminal(void **state)
{
	struct table *t = table_new("N");

	table_cell(t, "a\033[2Jb\nc\x7f\xc2\x9bz\xff");
	assert_string_equal(printed(t), "N\na?[2Jb?c??z?\n");
}

static void many_rows_are_kept(void **state)
{
	struct table *t = table_new("N|>M");
	const char *text;
	int count = 0;

	for (int i = 0; i < 300; i++) {
		table_cell(t, "x");
		table_size(t, (uint64_t)i);
	}
	text = printed(t);
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		count++;
	assert_int_equal(count, 301);
}

static void progress_is_one_line_each_off_terminals(void **state)
{
	output_begin(&err, STDERR_FILENO);
	show_progress("layer a", 0, 2048);
	show_progress("layer a", 1024, 2048);
	show_progress("layer b", 0, 1024);
	show_progress("layer a", 2048, 2048);
	show_progress("layer a", 2048, 2048);
	show_progress("layer b", 1024, 1024);
	show_flush();
	output_end(&err);
	assert_string_equal(err.text, "layer a 2.0K\nlayer b 1.0K\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(times),
		cmocka_unit_test(digests_are_cut),
		cmocka_unit_test(columns_are_aligned),
		cmocka_unit_test(width_is_counted_in_characters),
		cmocka_unit_test(table_without_rows_is_not_printed),
		cmocka_unit_test(names_cannot_steer_the_terminal),
		cmocka_unit_test(many_rows_are_kept),
		cmocka_unit_test(progress_is_one_line_each_off_terminals),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
