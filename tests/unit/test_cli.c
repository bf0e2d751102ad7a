/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"

/* The command line is in no archive; what it is made of is tested as it is. */
#include "plugin/cli/cli.c"
#include "plugin/cli/columns.c"
#include "plugin/cli/progress.c"
#include "plugin/cli/show.c"
#include "plugin/cli/table.c"
#include "tests/unit/output.h"

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

static struct output out, err;

/* The arguments end with NULL. */
static int run_argv(const char *const *args)
{
	char *argv[16] = {(char *)"tarn"};
	int argc = 1, r;

	for (; *args; args++) {
		assert_true(argc < 15);
		argv[argc++] = (char *)*args;
	}
	memset(&seen, 0, sizeof(seen));
	output_begin(&out, STDOUT_FILENO);
	output_begin(&err, STDERR_FILENO);
	r = cli_main(argc, argv);
	output_end(&err);
	output_end(&out);
	return r;
}

#define run(...) run_argv((const char *const[]){__VA_ARGS__})

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

static void verbose_failures_show_the_chain(void **state)
{
	const struct cli cli = {.store = "", .verbose = 1};
	struct err e = ERR_INIT;

	err_errno(&e, -ENOENT, "index.json\033");
	err_wrap(&e, -EIO, "oci:/x");
	output_begin(&err, STDERR_FILENO);
	cli_fail(&cli, &e);
	output_end(&err);
	assert_string_equal(err.text, "tarn: oci:/x: index.json?: No such file or directory\n"
				      "  oci:/x\n"
				      "  index.json?\n"
				      "  No such file or directory (ENOENT)\n");
	err_set(&e, -ENOENT, "x is not known");
	output_begin(&err, STDERR_FILENO);
	cli_fail(&cli, &e);
	output_end(&err);
	assert_string_equal(err.text, "tarn: x is not known\n  x is not known\n");
}

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
		cmocka_unit_test(verbose_failures_show_the_chain),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
