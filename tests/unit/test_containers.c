/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The command line is no archive: what is tested here, and what it needs. */
#include "plugin/cli/ask.c"
#include "plugin/cli/columns.c"
#include "plugin/cli/inits.c"
#include "plugin/cli/known.c"
#include "plugin/cli/progress.c"
#include "plugin/cli/rundir.c"
#include "plugin/cli/show.c"
#include "plugin/cli/tool.c"

int cli_fail(const struct cli *cli, const struct err *e)
{
	return 1;
}

static void containers_by_the_options_of_their_root(void **state)
{
	static const char *const none[] = {
		"",
		"rw,lowerdir=/l",
		"rw,upperdir=/containers/x/upper/more,workdir=/w",
		"rw,upperdir=/containers//upper",
		"rw,upperdir=/containers/x,workdir=/containers/y/upper",
		"rw,workdir=/containers/y/upper",
	};
	char id[LIMIT_ID] = "";

	assert_int_equal(
		inits_id("rw,lowerdir+=/,upperdir=/s/containers/web-1/upper,workdir=/w", id), 0);
	assert_string_equal(id, "web-1");
	assert_int_equal(inits_id("rw,upperdir=/containers/a/upper/containers/b/upper", id), 0);
	assert_string_equal(id, "b");
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_int_equal(inits_id(none[i], id), -ENOENT);
}

static void containers_by_the_names_of_run_directories(void **state)
{
	static const char *const none[] = {"rootfs",      "run-",           "run--XXXXXX",
					   "run-abcdefg", "run-a/b-XXXXXX", "run-.x-XXXXXX",
					   "run-ab-XXXXX"};
	char name[LIMIT_NAME] = "run-a-b.c-x1Y2z3";

	assert_true(rundir_id(name));
	assert_string_equal(name, "a-b.c");
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		snprintf(name, sizeof(name), "%s", none[i]);
		assert_false(rundir_id(name));
	}
}

static void the_first_process_of_a_container(void **state)
{
	struct init v[] = {{.id = "a", .pid = 7}, {.id = "b", .pid = 8}, {.id = "b", .pid = 9}};
	const struct inits in = {.v = v, .n = ARRAY_LEN(v)};

	assert_int_equal(inits_pid(&in, "a"), 7);
	assert_int_equal(inits_pid(&in, "c"), 0);
	assert_int_equal(inits_pid(&in, "b"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(containers_by_the_options_of_their_root),
		cmocka_unit_test(containers_by_the_names_of_run_directories),
		cmocka_unit_test(the_first_process_of_a_container),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("containers", tests, NULL, NULL);
}
