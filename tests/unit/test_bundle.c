/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/bundle.h"

/*
 * The documents under tests/golden/bundle are compared byte for byte: other people's hooks and
 * scripts read them. Run from the top directory; with GOLDEN_WRITE=1 in the environment they are
 * written anew, for a reviewer to look at the difference.
 */
#define GOLDEN "tests/golden/bundle/"

static const char passwd[] = "#ghost:x:1:1::/:/bin/sh\n"
			     "root:x:0:0:root:/root:/bin/sh\n"
			     "broken:x:zero:0::/:\n"
			     "short:x:5\n"
			     "app:x:1000:1001:App,,,:/home/app:/bin/sh\n"
			     "app:x:7:7::/second:/bin/sh\n"
			     "42:x:4242:4242::/home/42:/bin/sh\n"
			     "relative:x:8:8::home:/bin/sh\n"
			     "last:x:9:9::/last";
static const char group[] = "root:x:0:\n"
			    "app:x:1001:\n"
			    "wheel:x:10:root,app\n"
			    "almost:x:11:ap,appl,myapp\n"
			    "video:x:44:app\n"
			    "broken:x:y:app\n"
			    "42:x:4300:\n"
			    "tail:x:99:last";

/* --- users ---------------------------------------------------------------------------------- */

static struct bundle_user look_up(const char *user)
{
	struct bundle_user u;
	struct err e = ERR_INIT;

	if (bundle_user_lookup(user, passwd, group, &u, &e) < 0)
		fail_msg("%s", e.text);
	return u;
}

static void assert_user(const char *user, uint32_t uid, uint32_t gid, const char *home)
{
	struct bundle_user u = look_up(user);

	assert_int_equal(u.uid, uid);
	assert_int_equal(u.gid, gid);
	assert_string_equal(u.home, home);
}

static void no_user(const char *user, const char *pw, const char *gr, int code, const char *message)
{
	struct bundle_user u = {.uid = 77};
	struct err e = ERR_INIT;

	assert_int_equal(bundle_user_lookup(user, pw, gr, &u, &e), code);
	assert_string_equal(e.text, message);
	assert_int_equal(u.uid, 77);
}

static void users_are_found(void **state)
{
	assert_user(NULL, 0, 0, "/root");
	assert_user("", 0, 0, "/root");
	assert_user("app", 1000, 1001, "/home/app");
	assert_user("last", 9, 9, "/last");
	assert_user("relative", 8, 8, "");
	assert_user("app:wheel", 1000, 10, "/home/app");
	assert_user("app:", 1000, 1001, "/home/app");
	assert_user(":wheel", 0, 10, "/root");
}

static void numbers_need_no_entry(void **state)
{
	assert_user("1000", 1000, 1001, "/home/app");
	assert_user("555", 555, 0, "");
	assert_user("555:666", 555, 666, "");
	assert_user("app:666", 1000, 666, "/home/app");
	assert_user("4294967294:4294967294", 4294967294, 4294967294, "");
	/* Never the name "42". */
	assert_user("42", 42, 0, "");
	assert_user("app:42", 1000, 42, "/home/app");
}

static void groups_of_a_user_come_along(void **state)
{
	struct bundle_user u = look_up("app");

	assert_int_equal(u.ngroups, 2);
	assert_int_equal(u.groups[0], 10);
	assert_int_equal(u.groups[1], 44);
	assert_int_equal(look_up("1000").ngroups, 2);
	assert_int_equal(look_up("").ngroups, 1);
	assert_int_equal(look_up("last").groups[0], 99);
	assert_int_equal(look_up("555").ngroups, 0);
	assert_int_equal(look_up("app:wheel").ngroups, 0);
}

static void an_image_may_have_no_passwd(void **state)
{
	struct bundle_user u;

	assert_int_equal(bundle_user_lookup(NULL, NULL, NULL, &u, NULL), 0);
	assert_int_equal(u.uid, 0);
	assert_string_equal(u.home, "");
	assert_int_equal(bundle_user_lookup("1:2", NULL, NULL, &u, NULL), 0);
	assert_int_equal(u.gid, 2);
	assert_int_equal(bundle_user_lookup("1", "", "", &u, NULL), 0);
	no_user("app", NULL, NULL, -ENOENT, "user 'app' is not in the image's /etc/passwd");
}

static void unknown_users_are_named(void **state)
{
	no_user("nobody", passwd, group, -ENOENT,
		"user 'nobody' is not in the image's /etc/passwd");
	no_user("broken", passwd, group, -ENOENT,
		"user 'broken' is not in the image's /etc/passwd");
	no_user("short", passwd, group, -ENOENT, "user 'short' is not in the image's /etc/passwd");
	no_user("#ghost", passwd, group, -ENOENT,
		"user '#ghost' is not in the image's /etc/passwd");
	no_user("-1", passwd, group, -ENOENT, "user '-1' is not in the image's /etc/passwd");
	no_user("app:none", passwd, group, -ENOENT,
		"group 'none' is not in the image's /etc/group");
	no_user("app:wheel:x", passwd, group, -ENOENT,
		"group 'wheel:x' is not in the image's /etc/group");
	no_user("4294967295", passwd, group, -EINVAL, "user 4294967295 is larger than any id");
	no_user("0:99999999999999999999", passwd, group, -EINVAL,
		"group 99999999999999999999 is larger than any id");
}

static void too_many_groups_are_an_error(void **state)
{
	_cleanup_buf_ struct buf b;
	struct bundle_user u;

	buf_init(&b, 1 << 20);
	for (int i = 0; i < 256; i++)
		buf_printf(&b, "g%d:x:%d:app\n", i, i);
	assert_int_equal(bundle_user_lookup("app", passwd, buf_cstr(&b), &u, NULL), 0);
	assert_int_equal(u.ngroups, 256);
	assert_int_equal(u.groups[255], 255);
	buf_put_str(&b, "more:x:1:app\n");
	no_user("app", passwd, buf_cstr(&b), -E2BIG, "user 'app' is in more than 256 groups");
}

/* --- documents ------------------------------------------------------------------------------ */

/* A bundle in the making: what a test changes before it is written. */
struct fixture {
	struct digest digest;
	struct run_config image;
	struct bundle_user user;
	struct bundle_options opt;
	struct buf out;
};

static void parse_image(struct fixture *f, const char *config)
{
	struct err e = ERR_INIT;

	run_config_free(&f->image);
	if (config_parse_run(config, strlen(config), "config", &f->image, &e) < 0)
		fail_msg("%s", e.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	*state = f;
	assert_int_equal(digest_of("", 0, &f->digest), 0);
	f->opt.image = &f->digest;
	f->opt.hook_path = "/usr/libexec/tarn/tarn-hook";
	f->opt.socket_path = "/run/tarn/tarnd.sock";
	f->opt.cgroup_mount = true;
	parse_image(f, "{\"config\": {\"Cmd\": [\"/bin/sh\"]}}");
	buf_init(&f->out, LIMIT_BUNDLE_CONFIG);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	run_config_free(&f->image);
	buf_free(&f->out);
	free(f);
	return 0;
}

static void write_bundle(struct fixture *f)
{
	struct err e = ERR_INIT;

	buf_clear(&f->out);
	if (bundle_write(&f->image, &f->user, &f->opt, &f->out, &e) < 0)
		fail_msg("%s", e.text);
}

static void refused(struct fixture *f, const char *message)
{
	struct err e = ERR_INIT;

	buf_clear(&f->out);
	assert_int_equal(bundle_write(&f->image, &f->user, &f->opt, &f->out, &e), -EINVAL);
	assert_string_equal(e.text, message);
	assert_int_equal(f->out.len, 0);
}

static void golden_write(const char *path, const struct buf *b)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, b->data, b->len), 0);
}

static void assert_golden(struct fixture *f, const char *path)
{
	_cleanup_fd_ int fd = -1;
	_cleanup_buf_ struct buf want;

	write_bundle(f);
	if (getenv("GOLDEN_WRITE"))
		golden_write(path, &f->out);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	buf_init(&want, LIMIT_BUNDLE_CONFIG);
	assert_int_equal(fd_read_all(fd, &want), 0);
	assert_string_equal(buf_cstr(&f->out), buf_cstr(&want));
}

static void the_smallest_bundle(void **state)
{
	assert_golden(*state, GOLDEN "minimal.json");
}

static void a_bundle_with_everything(void **state)
{
	static const char *const env[] = {"LANG=C", "A=from user", "EMPTY="};
	static const char *const args[] = {"--serve", "\"quoted\" / \xc3\xa9\n"};
	static const struct bundle_volume volumes[] = {
		{"/srv/data", "/data", false},
		{"/etc/resolv.conf", "/etc/resolv.conf", true},
	};
	struct fixture *f = *state;

	parse_image(f, "{\"config\": {\"Env\": [\"PATH=/opt/bin\", \"A=from image\", \"B=2\"],"
		       "\"Entrypoint\": [\"/opt/bin/app\"], \"Cmd\": [\"--help\"],"
		       "\"WorkingDir\": \"/srv\", \"User\": \"app\","
		       "\"StopSignal\": \"SIGQUIT\"}}");
	f->user = look_up(f->image.user);
	f->opt.read_only = true;
	f->opt.terminal = true;
	f->opt.hostname = "web-1";
	f->opt.env = env;
	f->opt.nenv = ARRAY_LEN(env);
	f->opt.args = args;
	f->opt.nargs = ARRAY_LEN(args);
	f->opt.volumes = volumes;
	f->opt.nvolumes = ARRAY_LEN(volumes);
	assert_golden(f, GOLDEN "everything.json");
}

static void a_bundle_in_the_host_network_without_cgroups(void **state)
{
	struct fixture *f = *state;

	f->opt.host_net = true;
	f->opt.cgroup_mount = false;
	assert_golden(f, GOLDEN "host-net-no-cgroup.json");
}

static void the_same_input_gives_the_same_bytes(void **state)
{
	_cleanup_free_ char *first = NULL;
	struct fixture *f = *state;

	write_bundle(f);
	first = strdup(buf_cstr(&f->out));
	write_bundle(f);
	assert_string_equal(first, buf_cstr(&f->out));
}

/* process.@key of the bundle, its strings joined by '|'. */
static void assert_list(struct fixture *f, const char *key, const char *want)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf joined;
	const struct json *list;

	write_bundle(f);
	assert_int_equal(
		json_parse(f->out.data, f->out.len, LIMIT_BUNDLE_CONFIG, "bundle", &doc, NULL), 0);
	list = json_get(json_get(doc, "process"), key);
	buf_init(&joined, 4096);
	for (size_t i = 0; i < json_count(list); i++)
		buf_printf(&joined, "%s%s", i ? "|" : "", json_str(json_at(list, i)));
	assert_string_equal(buf_cstr(&joined), want);
}

static void the_command_is_entrypoint_and_cmd(void **state)
{
	static const char *const args[] = {"x", "y"};
	struct fixture *f = *state;

	parse_image(f, "{\"config\": {\"Entrypoint\": [\"e\", \"f\"], \"Cmd\": [\"c\", \"d\"]}}");
	assert_list(f, "args", "e|f|c|d");
	f->opt.args = args;
	f->opt.nargs = 2;
	assert_list(f, "args", "e|f|x|y");
	parse_image(f, "{\"config\": {\"Cmd\": [\"c\", \"d\"]}}");
	assert_list(f, "args", "x|y");
	parse_image(f, "{}");
	assert_list(f, "args", "x|y");
	f->opt.nargs = 0;
	refused(f, "image sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		   " has no entrypoint and no command: give the command to run");
	parse_image(f, "{\"config\": {\"Cmd\": [\"\"]}}");
	refused(f, "the command to run in image sha256:"
		   "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		   " is an empty string");
}

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static void later_variables_replace_earlier_ones(void **state)
{
	static const char *const env[] = {"B=user", "C=", "B=last", "AA=2"};
	struct fixture *f = *state;

	assert_list(f, "env", DEFAULT_PATH);
	parse_image(f, "{\"config\": {\"Cmd\": [\"c\"], \"Env\":"
		       "[\"AA=1\", \"A=1\", \"B=image\", \"junk\", \"=x\", \"A=2\", \"PATH=\"]}}");
	assert_list(f, "env", "AA=1|A=2|B=image|PATH=");
	f->opt.env = env;
	f->opt.nenv = ARRAY_LEN(env);
	assert_list(f, "env", "AA=2|A=2|B=last|PATH=|C=");
}

static void home_and_term_are_set_when_the_image_does_not(void **state)
{
	static const char *const env[] = {"HOME=/mine", "TERM=dumb", "PATH=/p"};
	struct fixture *f = *state;

	f->user = look_up("app");
	f->opt.terminal = true;
	assert_list(f, "env", DEFAULT_PATH "|TERM=xterm|HOME=/home/app");
	snprintf(f->user.home, sizeof(f->user.home), "/home/\xff");
	assert_list(f, "env", DEFAULT_PATH "|TERM=xterm");
	f->opt.env = env;
	f->opt.nenv = ARRAY_LEN(env);
	assert_list(f, "env", "HOME=/mine|TERM=dumb|PATH=/p");
}

static void wrong_variables_are_refused(void **state)
{
	const char *env[] = {"A=1", "NOVALUE"};
	struct fixture *f = *state;

	f->opt.env = env;
	f->opt.nenv = 2;
	refused(f, "variable 'NOVALUE' is not of the form NAME=VALUE");
	env[1] = "=x";
	refused(f, "variable '=x' is not of the form NAME=VALUE");
	env[1] = "A=\xc3(";
	refused(f, "variable 'A=\xc3(' is not UTF-8");
}

static void wrong_volumes_are_refused(void **state)
{
	struct bundle_volume v = {"/a", "b", false};
	struct fixture *f = *state;

	f->opt.volumes = &v;
	f->opt.nvolumes = 1;
	refused(f, "volume destination 'b' is not an absolute path");
	v = (struct bundle_volume){"./a", "/b", false};
	refused(f, "volume source './a' is not an absolute path");
	v = (struct bundle_volume){"/a", "/", false};
	refused(f, "volume destination '/' would hide the image");
	v = (struct bundle_volume){"/a", "//./", false};
	refused(f, "volume destination '//./' would hide the image");
	v = (struct bundle_volume){"/a\xff", "/b", false};
	refused(f, "volume source '/a\xff' is not UTF-8");
}

static void wrong_options_are_refused(void **state)
{
	static const char *const args[] = {"\xff"};
	struct fixture *f = *state;

	f->opt.hostname = "";
	refused(f, "hostname '' must have 1 to 64 bytes");
	f->opt.hostname = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	refused(f, "hostname "
		   "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"
		   " must have 1 to 64 bytes");
	f->opt.hostname = NULL;
	f->opt.args = args;
	f->opt.nargs = 1;
	refused(f, "argument '\xff' is not UTF-8");
	f->opt.nargs = 0;
	f->opt.hook_path = "tarn-hook";
	refused(f, "hook 'tarn-hook' is not an absolute path");
	f->opt.hook_path = "/h";
	f->opt.socket_path = NULL;
	refused(f, "socket '' is not an absolute path");
	f->opt.socket_path = "/s";
	f->opt.image = NULL;
	refused(f, "a bundle needs the digest of its image");
	f->opt.image = &f->digest;
	parse_image(f, "{\"config\": {\"Cmd\": [\"c\"], \"WorkingDir\": \"srv\"}}");
	refused(f, "the image's working directory 'srv' is not absolute");
}

static void a_bundle_has_a_largest_size(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;

	buf_free(&f->out);
	buf_init(&f->out, 1000);
	assert_int_equal(bundle_write(&f->image, &f->user, &f->opt, &f->out, &e), -EFBIG);
	assert_memory_equal(e.text, "config.json of the bundle: ", 27);
}

#define bundle_test(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_are_found),
		cmocka_unit_test(numbers_need_no_entry),
		cmocka_unit_test(groups_of_a_user_come_along),
		cmocka_unit_test(an_image_may_have_no_passwd),
		cmocka_unit_test(unknown_users_are_named),
		cmocka_unit_test(too_many_groups_are_an_error),
		bundle_test(the_smallest_bundle),
		bundle_test(a_bundle_with_everything),
		bundle_test(a_bundle_in_the_host_network_without_cgroups),
		bundle_test(the_same_input_gives_the_same_bytes),
		bundle_test(the_command_is_entrypoint_and_cmd),
		bundle_test(later_variables_replace_earlier_ones),
		bundle_test(home_and_term_are_set_when_the_image_does_not),
		bundle_test(wrong_variables_are_refused),
		bundle_test(wrong_volumes_are_refused),
		bundle_test(wrong_options_are_refused),
		bundle_test(a_bundle_has_a_largest_size),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
