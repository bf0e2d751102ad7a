/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/config.h"

#define SUM "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static int ids(const char *text, struct diff_ids *ret, struct err *e)
{
	return config_diff_ids(text, strlen(text), "config X", ret, e);
}

static int run(const char *text, struct run_config *ret, struct err *e)
{
	return config_parse_run(text, strlen(text), "config X", ret, e);
}

static void ids_refused(const char *text, const char *message)
{
	struct diff_ids d = {.n = 77};
	struct err e = ERR_INIT;

	assert_int_equal(ids(text, &d, &e), -EINVAL);
	assert_string_equal(e.text, message);
	assert_int_equal(d.n, 77);
}

static void run_refused(const char *text, const char *message)
{
	struct run_config c = {.workdir = NULL};
	struct err e = ERR_INIT;

	assert_int_equal(run(text, &c, &e), -EINVAL);
	assert_string_equal(e.text, message);
	assert_null(c.env.v);
}

/* {"rootfs": {"diff_ids": [...]}} with @n ids. */
static void make_ids(struct buf *b, size_t n)
{
	buf_put_str(b, "{\"rootfs\": {\"type\": \"layers\", \"diff_ids\": [");
	for (size_t i = 0; i < n; i++)
		buf_printf(b, "%s\"sha256:%064zx\"", i ? "," : "", i);
	buf_put_str(b, "]}}");
	assert_int_equal(b->failed, 0);
}

static void diff_ids_are_read_in_order(void **state)
{
	_cleanup_buf_ struct buf b;
	struct diff_ids d;

	buf_init(&b, 1 << 20);
	make_ids(&b, LIMIT_LAYERS);
	assert_int_equal(ids(buf_cstr(&b), &d, NULL), 0);
	assert_int_equal(d.n, LIMIT_LAYERS);
	for (size_t i = 0; i < d.n; i++)
		assert_int_equal(d.id[i].sum[DIGEST_SIZE - 1], i);
}

static void an_image_may_have_no_layers(void **state)
{
	struct diff_ids d;

	assert_int_equal(ids("{\"rootfs\": {\"diff_ids\": []}}", &d, NULL), 0);
	assert_int_equal(d.n, 0);
}

static void wrong_diff_ids_are_refused(void **state)
{
	static const char none[] =
		"config X has no rootfs.diff_ids: not the config of a container image";
	_cleanup_buf_ struct buf b;

	ids_refused("{}", none);
	ids_refused("{\"rootfs\": {}}", none);
	ids_refused("{\"rootfs\": {\"diff_ids\": \"sha256:" SUM "\"}}", none);
	ids_refused("[]", "config X is not an image config (a JSON object)");
	ids_refused("{\"rootfs\": {\"diff_ids\": [\"sha256:" SUM "\", \"sha256:123\"]}}",
		    "config X: rootfs.diff_ids[1]: 'sha256:123' is not a digest of the form "
		    "sha256:<64 lower-case hex>");
	ids_refused("{\"rootfs\": {\"diff_ids\": [7]}}",
		    "config X: rootfs.diff_ids[0]: '' is not a digest of the form "
		    "sha256:<64 lower-case hex>");
	buf_init(&b, 1 << 20);
	make_ids(&b, LIMIT_LAYERS + 1);
	ids_refused(buf_cstr(&b), "config X has 129 diff_ids, more than the 128 we take");
}

static void too_large_a_config_is_refused(void **state)
{
	size_t len = LIMIT_CONFIG + 1;
	_cleanup_free_ char *text = malloc(len);
	struct diff_ids d;
	struct run_config c;
	struct err e = ERR_INIT;

	assert_non_null(text);
	memset(text, ' ', len);
	assert_int_equal(config_diff_ids(text, len, "config X", &d, &e), -EFBIG);
	assert_memory_equal(e.text, "config X: ", 10);
	assert_int_equal(config_parse_run(text, len, "config X", &c, &e), -EFBIG);
}

static void the_run_part_is_read(void **state)
{
	_cleanup_(run_config_free) struct run_config c;

	assert_int_equal(run("{\"os\": \"linux\", \"config\": {\"Env\": [\"A=1\", \"B=\"],"
			     "\"Entrypoint\": [\"/sh\", \"-c\"], \"Cmd\": [\"x\"],"
			     "\"WorkingDir\": \"/w\", \"User\": \"a:b\","
			     "\"StopSignal\": \"SIGQUIT\", \"Labels\": {}}}",
			     &c, NULL),
			 0);
	assert_int_equal(c.env.n, 2);
	assert_string_equal(c.env.v[0], "A=1");
	assert_string_equal(c.env.v[1], "B=");
	assert_null(c.env.v[2]);
	assert_int_equal(c.entrypoint.n, 2);
	assert_string_equal(c.entrypoint.v[1], "-c");
	assert_int_equal(c.cmd.n, 1);
	assert_string_equal(c.cmd.v[0], "x");
	assert_string_equal(c.workdir, "/w");
	assert_string_equal(c.user, "a:b");
	assert_string_equal(c.stop_signal, "SIGQUIT");
}

static void what_is_absent_or_null_is_empty(void **state)
{
	static const char *const texts[] = {
		"{}",
		"{\"config\": null}",
		"{\"config\": {}}",
		("{\"config\": {\"Env\": null, \"Cmd\": null, \"Entrypoint\": null,"
		 " \"User\": null, \"WorkingDir\": null, \"StopSignal\": null}}"),
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		_cleanup_(run_config_free) struct run_config c;

		assert_int_equal(run(texts[i], &c, NULL), 0);
		assert_int_equal(c.env.n + c.entrypoint.n + c.cmd.n, 0);
		assert_null(c.workdir);
		assert_null(c.user);
		assert_null(c.stop_signal);
	}
}

static void wrong_run_parts_are_refused(void **state)
{
	run_refused("7", "config X is not an image config (a JSON object)");
	run_refused("{\"config\": []}", "config X: config is not an object");
	run_refused("{\"config\": {\"Env\": \"A=1\"}}", "config X: config.Env is not a list");
	run_refused("{\"config\": {\"Env\": [\"A=1\", 2]}}",
		    "config X: config.Env[1] is not a string");
	run_refused("{\"config\": {\"Env\": [\"A=1\"], \"Cmd\": [\"a\\u0000b\"]}}",
		    "config X: config.Cmd[0] is not a string");
	run_refused("{\"config\": {\"Env\": [\"A=1\"], \"User\": 7}}",
		    "config X: config.User is not a string");
	run_refused("{\"os\": \"windows\"}", "config X is for windows, not for linux");
}

static void too_many_strings_are_refused(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, 1 << 20);
	buf_put_str(&b, "{\"config\": {\"Env\": [\"A=1\"");
	for (size_t i = 0; i < LIMIT_STRINGS; i++)
		buf_put_str(&b, ",\"A=1\"");
	buf_put_str(&b, "]}}");
	run_refused(buf_cstr(&b), "config X: config.Env has more than 4096 strings");
}

static void a_list_grows(void **state)
{
	_cleanup_(strv_free) struct strv s = {.v = NULL};
	char text[16];

	for (size_t i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "%zu", i);
		assert_int_equal(strv_add(&s, text), 0);
		assert_int_equal(s.n, i + 1);
		assert_null(s.v[s.n]);
	}
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(strtoul(s.v[i], NULL, 10), i);
	strv_free(&s);
	assert_int_equal(s.n, 0);
	assert_int_equal(strv_add(&s, "again"), 0);
	assert_string_equal(s.v[0], "again");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(diff_ids_are_read_in_order),
		cmocka_unit_test(an_image_may_have_no_layers),
		cmocka_unit_test(wrong_diff_ids_are_refused),
		cmocka_unit_test(too_large_a_config_is_refused),
		cmocka_unit_test(the_run_part_is_read),
		cmocka_unit_test(what_is_absent_or_null_is_empty),
		cmocka_unit_test(wrong_run_parts_are_refused),
		cmocka_unit_test(too_many_strings_are_refused),
		cmocka_unit_test(a_list_grows),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
