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

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/ref.h"

/* The command line is in no archive; what it is made of is tested as it is. */
#include "plugin/cli/cli.c"
#include "plugin/cli/columns.c"
#include "plugin/cli/login.c"
#include "plugin/cli/progress.c"
#include "plugin/cli/show.c"
#include "plugin/cli/table.c"

/* --- verbs that only take down how they were called --- */

static struct {
	const char *verb;
	struct cli cli;
	int nargs;
	const char *arg[8];
	int nopts;
	int opt[8];
	const char *value[8];
} seen;

static int see(int argc, char **argv, const struct cli *cli)
{
	int id;

	memset(&seen, 0, sizeof(seen));
	seen.verb = argv[0];
	seen.cli = *cli;
	while ((id = cli_getopt(cli, argc, argv)) != -1) {
		assert_true(seen.nopts < 8);
		seen.opt[seen.nopts] = id;
		seen.value[seen.nopts++] = optarg;
	}
	for (int i = optind; i < argc; i++) {
		assert_true(seen.nargs < 8);
		seen.arg[seen.nargs++] = argv[i];
	}
	return 0;
}

#define SEE(name)                                                                                  \
	int name(int argc, char **argv, const struct cli *cli)                                     \
	{                                                                                          \
		return see(argc, argv, cli);                                                       \
	}
SEE(cmd_doctor)
SEE(cmd_pull)
SEE(cmd_images)
SEE(cmd_layers)
SEE(cmd_bundle)
SEE(cmd_run)
SEE(cmd_mount)
SEE(cmd_umount)
SEE(cmd_fill)
SEE(cmd_evict)
SEE(cmd_verify)
SEE(cmd_status)
SEE(cmd_pin)
SEE(cmd_unpin)
SEE(cmd_rm)
SEE(cmd_gc)

/* --- running it, with what it prints --- */

struct output {
	int fd;    /* owned; the file */
	int saved; /* owned; what it stands in for */
	int stands_for;
	char text[16384];
};

static void output_begin(struct output *o, int fd)
{
	fflush(NULL);
	o->stands_for = fd;
	o->saved = dup(fd);
	o->fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	assert_true(o->fd >= 0 && o->saved >= 0);
	dup2(o->fd, fd);
}

static const char *output_end(struct output *o)
{
	ssize_t n;

	fflush(NULL);
	dup2(o->saved, o->stands_for);
	close(o->saved);
	n = pread(o->fd, o->text, sizeof(o->text) - 1, 0);
	o->text[n > 0 ? n : 0] = '\0';
	close(o->fd);
	return o->text;
}

static struct output out, err;

static int run(const char *first, ...)
{
	char *argv[16] = {(char *)"tarn"};
	int argc = 1, r;
	va_list ap;

	va_start(ap, first);
	for (const char *a = first; a; a = va_arg(ap, const char *)) {
		assert_true(argc < 15);
		argv[argc++] = (char *)a;
	}
	va_end(ap);
	memset(&seen, 0, sizeof(seen));
	output_begin(&out, STDOUT_FILENO);
	output_begin(&err, STDERR_FILENO);
	r = cli_main(argc, argv);
	output_end(&err);
	output_end(&out);
	return r;
}

/* One line that begins as every error does. */
static void assert_one_line(const char *text)
{
	assert_int_equal(strncmp(text, "tarn: ", 6), 0);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

/* --- which verb, and how --- */

static void no_verb_is_usage(void **state)
{
	assert_int_equal(run(NULL), 2);
	assert_non_null(strstr(err.text, "usage: tarn"));
	assert_string_equal(out.text, "");
}

static void unknown_verb_is_usage(void **state)
{
	assert_int_equal(run("dance", NULL), 2);
	assert_one_line(err.text);
	assert_string_equal(err.text, "tarn: there is no verb 'dance'; see tarn --help\n");
	assert_null(seen.verb);
}

static void unknown_options_are_usage(void **state)
{
	assert_int_equal(run("images", "--frob", NULL), 2);
	assert_string_equal(err.text,
			    "tarn: images: there is no option --frob; see tarn images --help\n");
	assert_int_equal(run("--frob", "images", NULL), 2);
	assert_int_equal(run("images", "-x", NULL), 2);
	assert_non_null(strstr(err.text, "there is no option -x;"));
	/* An option of another verb. */
	assert_int_equal(run("images", "--keep", "all", NULL), 2);
	assert_null(seen.verb);
}

static void missing_value_is_usage(void **state)
{
	assert_int_equal(run("pull", "x", "--keep", NULL), 2);
	assert_non_null(strstr(err.text, "option --keep needs a value"));
	assert_int_equal(run("run", "-e", NULL), 2);
	assert_non_null(strstr(err.text, "option -e needs a value"));
	assert_int_equal(run("--store", NULL), 2);
}

static void arguments_are_counted(void **state)
{
	assert_int_equal(run("pull", NULL), 2);
	assert_one_line(err.text);
	assert_int_equal(run("pull", "a", "b", NULL), 2);
	assert_non_null(strstr(err.text, "'b' is one argument too many"));
	assert_int_equal(run("status", "a", NULL), 2);
	assert_int_equal(run("mount", "a", NULL), 2);
	assert_int_equal(run("layers", NULL), 0);
	assert_int_equal(run("layers", "a", NULL), 0);
	assert_int_equal(run("layers", "a", "b", NULL), 2);
	assert_int_equal(run("pin", "a", "b", "c", "d", NULL), 0);
	assert_int_equal(seen.nargs, 4);
}

static void globals_before_and_after(void **state)
{
	assert_int_equal(run("--store", "/s", "--json", "images", "--socket=/k", "-q", NULL), 0);
	assert_string_equal(seen.verb, "images");
	assert_string_equal(seen.cli.store, "/s");
	assert_string_equal(seen.cli.socket, "/k");
	assert_true(seen.cli.json);
	assert_true(seen.cli.quiet);
	assert_int_equal(seen.cli.verbose, 0);
	assert_int_equal(seen.nopts, 0);
	assert_int_equal(run("-v", "images", "--verbose", "-v", NULL), 0);
	assert_int_equal(seen.cli.verbose, 3);
}

static void last_global_wins(void **state)
{
	assert_int_equal(run("--store", "/a", "images", "--store", "/b", NULL), 0);
	assert_string_equal(seen.cli.store, "/b");
}

static void environment_and_defaults(void **state)
{
	unsetenv("TARN_STORE");
	setenv("TARN_SOCKET", "", 1);
	assert_int_equal(run("images", NULL), 0);
	assert_string_equal(seen.cli.store, "/var/lib/tarn");
	assert_string_equal(seen.cli.socket, "/run/tarn/tarnd.sock");
	setenv("TARN_STORE", "/env/store", 1);
	setenv("TARN_SOCKET", "/env/sock", 1);
	assert_int_equal(run("images", "--socket", "/opt", NULL), 0);
	assert_string_equal(seen.cli.store, "/env/store");
	assert_string_equal(seen.cli.socket, "/opt");
	unsetenv("TARN_STORE");
	unsetenv("TARN_SOCKET");
}

static void options_of_a_verb(void **state)
{
	assert_int_equal(run("evict", "--free", "3G", "--json", "img", "--wait", NULL), 0);
	assert_int_equal(seen.nopts, 2);
	assert_int_equal(seen.opt[0], OPT_FREE);
	assert_string_equal(seen.value[0], "3G");
	assert_int_equal(seen.opt[1], OPT_WAIT);
	assert_int_equal(seen.nargs, 1);
	assert_string_equal(seen.arg[0], "img");
	assert_true(seen.cli.json);
}

static void command_of_run_is_its_own(void **state)
{
	assert_int_equal(run("run", "--rm", "-v", "/a:/b", "img", "ls", "-v", "--help", NULL), 0);
	assert_int_equal(seen.nopts, 2);
	assert_int_equal(seen.opt[0], OPT_RM);
	assert_int_equal(seen.opt[1], 'v');
	assert_string_equal(seen.value[1], "/a:/b");
	assert_int_equal(seen.nargs, 4);
	assert_string_equal(seen.arg[1], "ls");
	assert_string_equal(seen.arg[2], "-v");
	assert_string_equal(seen.arg[3], "--help");
	assert_int_equal(seen.cli.verbose, 0);
}

static void verbose_is_not_a_volume(void **state)
{
	assert_int_equal(run("run", "--verbose", "img", NULL), 0);
	assert_int_equal(seen.nopts, 0);
	assert_int_equal(seen.cli.verbose, 1);
}

static void double_dash_ends_options(void **state)
{
	assert_int_equal(run("bundle", "img", "--read-only", "dir", "--", "cmd", "-x", NULL), 0);
	assert_int_equal(seen.nopts, 1);
	assert_int_equal(seen.opt[0], OPT_READ_ONLY);
	assert_int_equal(seen.nargs, 4);
	assert_string_equal(seen.arg[0], "img");
	assert_string_equal(seen.arg[1], "dir");
	assert_string_equal(seen.arg[2], "cmd");
	assert_string_equal(seen.arg[3], "-x");
}

static void version_is_printed(void **state)
{
	assert_int_equal(run("--version", NULL), 0);
	assert_string_equal(out.text, "tarn " TARN_VERSION "\n");
	assert_int_equal(run("pull", "--version", NULL), 0);
	assert_string_equal(out.text, "tarn " TARN_VERSION "\n");
}

static void help_names_every_verb_and_option(void **state)
{
	assert_int_equal(run("--help", NULL), 0);
	for (const struct cli_verb *v = cli_verbs; v->name; v++)
		assert_non_null(strstr(out.text, v->help));
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		char want[64];

		assert_int_equal(run(v->name, "--help", NULL), 0);
		assert_null(seen.verb);
		snprintf(want, sizeof(want), "usage: tarn %s", v->name);
		assert_non_null(strstr(out.text, want));
		for (const struct cli_option *o = v->options; o && !is_end(o); o++) {
			snprintf(want, sizeof(want), "--%s", o->name);
			assert_non_null(strstr(out.text, want));
			assert_non_null(strstr(out.text, o->help));
		}
	}
	assert_int_equal(run("help", "evict", NULL), 0);
	assert_non_null(strstr(out.text, "--cold-for TIME"));
	assert_int_equal(run("help", "dance", NULL), 2);
}

static void every_verb_fits_the_tables(void **state)
{
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		size_t n = ARRAY_LEN(globals);

		for (const struct cli_option *o = v->options; o && !is_end(o); o++) {
			assert_non_null(o->name);
			n++;
		}
		assert_true(n <= OPTIONS_MAX);
	}
}

static void failures_print_one_line(void **state)
{
	const struct cli cli = {.store = ""};
	struct err e = ERR_INIT;
	int r;

	err_set(&e, -EOPNOTSUPP, "no such feature");
	output_begin(&err, STDERR_FILENO);
	r = cli_fail(&cli, &e);
	output_end(&err);
	assert_int_equal(r, 3);
	assert_string_equal(err.text, "tarn: no such feature\n");
	err_set(&e, -EIO, "the registry says \033[2J\n\"no\"");
	output_begin(&err, STDERR_FILENO);
	r = cli_fail(&cli, &e);
	output_end(&err);
	assert_int_equal(r, 1);
	assert_string_equal(err.text, "tarn: the registry says ?[2J \"no\"\n");
}

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

/* --- credentials --- */

/* A home directory of its own. */
static int make_home(void **state)
{
	static char dir[64];

	snprintf(dir, sizeof(dir), "/tmp/test_cli.XXXXXX");
	assert_non_null(mkdtemp(dir));
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("DOCKER_CONFIG");
	setenv("HOME", dir, 1);
	*state = dir;
	return 0;
}

static int drop_home(void **state)
{
	_cleanup_fd_ int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd_remove_tree(tmp, strrchr(*state, '/') + 1);
}

static void put(const char *dir, const char *sub, const char *name, const char *text)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	for (char *p = path + strlen(dir); p; p = strchr(p + 1, '/')) {
		char c = *p;

		*p = '\0';
		mkdir(path, 0700);
		*p = c;
	}
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%s/%s", dir, sub, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* @want: "user/secret", or NULL when none is to be found. */
static void check_login(const char *source, const char *want)
{
	char *user = NULL, *secret = NULL, got[128];
	struct err e = ERR_INIT;
	struct ref ref;
	int r;

	assert_int_equal(ref_parse(source, &ref, &e), 0);
	r = login_find(&ref, &user, &secret, &e);
	assert_int_equal(r, want ? 1 : 0);
	if (!want)
		return;
	snprintf(got, sizeof(got), "%s/%s", user, secret);
	assert_string_equal(got, want);
	free(user);
	free(secret);
}

/* a:b = YTpi, u:pa:ss = dTpwYTpzcw==, user:secret = dXNlcjpzZWNyZXQ= */
static void logins_are_found(void **state)
{
	put(*state, ".config/containers", "auth.json",
	    "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"},"
	    "\"r.example/team\":{\"auth\":\"dTpwYTpzcw==\"},"
	    "\"docker.io\":{\"auth\":\"dXNlcjpzZWNyZXQ=\"}}}");
	check_login("r.example/x:1", "a/b");
	check_login("r.example/team/x:1", "u/pa:ss");
	check_login("r.example/teams/x:1", "a/b");
	check_login("docker.io/library/x", "user/secret");
	check_login("other.example/x", NULL);
	check_login("oci:/tmp/x", NULL);
}

static void docker_keys_are_understood(void **state)
{
	put(*state, ".docker", "config.json",
	    "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"YTpi\"},"
	    "\"https://h.example:5000\":{\"auth\":\"YTpi\"}},\"credsStore\":\"desktop\"}");
	check_login("docker.io/library/x", "a/b");
	check_login("h.example:5000/x", "a/b");
	check_login("h.example/x", NULL);
}

static void auth_file_variable_is_alone(void **state)
{
	char path[128];

	put(*state, ".config/containers", "auth.json",
	    "{\"auths\":{\"r.example\":{\"auth\":\"YTpi\"}}}");
	put(*state, "own", "a.json", "{\"auths\":{}}");
	snprintf(path, sizeof(path), "%s/own/a.json", (char *)*state);
	setenv("REGISTRY_AUTH_FILE", path, 1);
	check_login("r.example/x", NULL);
	unsetenv("REGISTRY_AUTH_FILE");
	check_login("r.example/x", "a/b");
}

static void odd_logins_are_none(void **state)
{
	static const char *const bad[] = {"", "YTp", "!!!!", "YWI=", "===="};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		snprintf(text, sizeof(text), "{\"auths\":{\"r.example\":{\"auth\":\"%s\"}}}",
			 bad[i]);
		put(*state, ".docker", "config.json", text);
		check_login("r.example/x", NULL);
	}
	put(*state, ".docker", "config.json", "{\"auths\":{\"r.example\":{}},\"credHelpers\":{}}");
	check_login("r.example/x", NULL);
	put(*state, ".docker", "config.json", "{}");
	check_login("r.example/x", NULL);
}

static void damaged_auth_file_is_an_error(void **state)
{
	char *user = NULL, *secret = NULL;
	struct err e = ERR_INIT;
	struct ref ref;

	put(*state, ".docker", "config.json", "{\"auths\":");
	assert_int_equal(ref_parse("r.example/x", &ref, NULL), 0);
	assert_true(login_find(&ref, &user, &secret, &e) < 0);
	assert_non_null(strstr(e.text, ".docker/config.json"));
	assert_null(user);
}

#define at_home(f) cmocka_unit_test_setup_teardown(f, make_home, drop_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_verb_is_usage),
		cmocka_unit_test(unknown_verb_is_usage),
		cmocka_unit_test(unknown_options_are_usage),
		cmocka_unit_test(missing_value_is_usage),
		cmocka_unit_test(arguments_are_counted),
		cmocka_unit_test(globals_before_and_after),
		cmocka_unit_test(last_global_wins),
		cmocka_unit_test(environment_and_defaults),
		cmocka_unit_test(options_of_a_verb),
		cmocka_unit_test(command_of_run_is_its_own),
		cmocka_unit_test(verbose_is_not_a_volume),
		cmocka_unit_test(double_dash_ends_options),
		cmocka_unit_test(version_is_printed),
		cmocka_unit_test(help_names_every_verb_and_option),
		cmocka_unit_test(every_verb_fits_the_tables),
		cmocka_unit_test(failures_print_one_line),
		cmocka_unit_test(sizes),
		cmocka_unit_test(times),
		cmocka_unit_test(digests_are_cut),
		cmocka_unit_test(columns_are_aligned),
		cmocka_unit_test(width_is_counted_in_characters),
		cmocka_unit_test(table_without_rows_is_not_printed),
		cmocka_unit_test(names_cannot_steer_the_terminal),
		cmocka_unit_test(many_rows_are_kept),
		cmocka_unit_test(progress_is_one_line_each_off_terminals),
		at_home(logins_are_found),
		at_home(docker_keys_are_understood),
		at_home(auth_file_variable_is_alone),
		at_home(odd_logins_are_none),
		at_home(damaged_auth_file_is_an_error),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
