/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/cli/show.h"
#include "plugin/ctl/proto.h"

#define STORE_DEFAULT  "/var/lib/tarn"
#define SOCKET_DEFAULT "/run/tarn/tarnd.sock"
#define OPTIONS_MAX    32   /* of one verb, with the global ones */
#define SHADOWED       1024 /* added to the id of a long option whose letter a verb has taken */

enum global {
	OPT_STORE = 512,
	OPT_SOCKET,
	OPT_JSON,
	OPT_HELP,
	OPT_VERSION,
};

static const struct cli_option globals[] = {
	{OPT_STORE, "store", "DIR", "the store; default " STORE_DEFAULT " (TARN_STORE)"},
	{OPT_SOCKET, "socket", "PATH", "tarnd's socket; default " SOCKET_DEFAULT " (TARN_SOCKET)"},
	{OPT_JSON, "json", NULL, "print JSON (listing verbs)"},
	{'q', "quiet", NULL, "no progress and no tables"},
	{'v', "verbose", NULL, "show how a failure came about"},
	{OPT_HELP, "help", NULL, "this text"},
	{OPT_VERSION, "version", NULL, "print the version"},
	{0, NULL, NULL, NULL},
};

static bool is_end(const struct cli_option *o)
{
	return !o->name && o->id == 0;
}

/* --- getopt's tables, from ours --- */

struct tables {
	char letters[2 * OPTIONS_MAX + 3];
	struct option longs[OPTIONS_MAX + 1];
	size_t nletters, nlongs;
};

static bool has_letter(const struct tables *t, int letter)
{
	return memchr(t->letters + 2, letter, t->nletters - 2) != NULL;
}

static bool has_long(const struct tables *t, const char *name)
{
	for (size_t i = 0; i < t->nlongs; i++)
		if (strcmp(t->longs[i].name, name) == 0)
			return true;
	return false;
}

/* What comes first wins: a verb's own -v is not the global one. */
static void add_options(struct tables *t, const struct cli_option *o)
{
	for (; o && !is_end(o); o++) {
		bool taken = o->id < 256 && has_letter(t, o->id);

		if (o->id < 256 && !taken) {
			t->letters[t->nletters++] = (char)o->id;
			if (o->arg)
				t->letters[t->nletters++] = ':';
		}
		if (o->name && t->nlongs < OPTIONS_MAX && !has_long(t, o->name))
			t->longs[t->nlongs++] = (struct option){
				.name = o->name,
				.has_arg = o->arg ? required_argument : no_argument,
				.val = taken ? o->id + SHADOWED : o->id,
			};
	}
}

/* Before the verb, and for verbs with `stop`, options end at the first argument ('+'). */
static void make_tables(struct tables *t, const struct cli_verb *v)
{
	memset(t, 0, sizeof(*t));
	t->letters[0] = !v || v->stop ? '+' : ' ';
	t->letters[1] = ':';
	t->nletters = 2;
	if (v)
		add_options(t, v->options);
	add_options(t, globals);
}

static int next_option(const struct tables *t, int argc, char **argv, int *ret_at)
{
	/* ' ' stands for no '+'. */
	return getopt_long(argc, argv, t->letters + (t->letters[0] == ' '), t->longs, ret_at);
}

static bool is_own(const struct cli_verb *v, int id)
{
	for (const struct cli_option *o = v ? v->options : NULL; o && !is_end(o); o++)
		if (o->id == id)
			return true;
	return false;
}

int cli_getopt(const struct cli *cli, int argc, char **argv)
{
	struct tables t;
	int id;

	make_tables(&t, cli->verb);
	do
		id = next_option(&t, argc, argv, NULL);
	while (id != -1 && !is_own(cli->verb, id));
	return id;
}

/* --- messages --- */

/* In one write, without what could steer a terminal. */
static void say(const char *text)
{
	_cleanup_buf_ struct buf b = {0};
	const char *line;

	buf_init(&b, 4 * ERR_TEXT_MAX);
	show_clean(&b, text);
	line = buf_cstr(&b);
	fprintf(stderr, "tarn: %s\n", line ? line : "out of memory");
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	const char *name = cli->verb ? cli->verb->name : NULL;
	char text[ERR_TEXT_MAX], line[ERR_TEXT_MAX + 128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (name)
		snprintf(line, sizeof(line), "%s: %s; see tarn %s --help", name, text, name);
	else
		snprintf(line, sizeof(line), "%s; see tarn --help", text);
	say(line);
	return 2;
}

/* A line of its own for each link; the errno's name is what one looks for in a manual page. */
static void say_chain(const struct err *e)
{
	const char *name = e->links.cause ? err_name(e->links.cause) : NULL;
	_cleanup_buf_ struct buf b = {0};
	char link[ERR_TEXT_MAX];
	size_t n = err_nlinks(e);
	const char *text;

	buf_init(&b, (4 + 3) * ERR_TEXT_MAX);
	for (size_t i = 0; i < n; i++) {
		buf_put_str(&b, "  ");
		show_clean(&b, err_link(e, i, link));
		if (i == n - 1 && name)
			buf_printf(&b, " (%s)", name);
		buf_put_str(&b, "\n");
	}
	text = buf_cstr(&b);
	fputs(text ? text : "", stderr);
}

int cli_fail(const struct cli *cli, const struct err *e)
{
	show_flush();
	say(e->text[0] ? e->text : err_words(e->code));
	if (cli->verbose)
		say_chain(e);
	return ctl_exit_code(e);
}

static void show_options(const char *title, const struct cli_option *o)
{
	char left[64];

	if (!o || is_end(o))
		return;
	printf("\n%s:\n", title);
	for (; !is_end(o); o++) {
		int n = snprintf(left, sizeof(left), "%s%c%s%s%s", o->id < 256 ? "-" : "  ",
				 o->id < 256 ? o->id : ' ', o->name && o->id < 256 ? ", " : " ",
				 o->name ? "--" : "", o->name ? o->name : "");

		if (o->arg && n > 0 && (size_t)n < sizeof(left))
			snprintf(left + n, sizeof(left) - (size_t)n, " %s", o->arg);
		printf("  %-34s %s\n", left, o->help);
	}
}

static int help_verb(const struct cli_verb *v)
{
	printf("usage: tarn %s%s%s%s\n\n%s\n", v->name, v->options ? " [OPTION...]" : "",
	       v->usage[0] ? " " : "", v->usage, v->help);
	show_options("Options", v->options);
	show_options("Global options", globals);
	return 0;
}

static int help_all(FILE *to)
{
	char left[64];

	fprintf(to, "usage: tarn [OPTION...] VERB [ARGUMENT...]\n\n"
		    "Container images whose content arrives as it is read.\n\n");
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		snprintf(left, sizeof(left), "%s %s", v->name, v->usage);
		fprintf(to, "  %-28s %s\n", left, v->help);
	}
	if (to == stdout)
		show_options("Global options", globals);
	return to == stdout ? 0 : 2;
}

/* --- from argv to a verb --- */

/* An option as the user wrote it. */
static int bad_option(const struct cli *cli, int c, char **argv)
{
	const char *text = argv[optind - 1];
	char letter[3] = {'-', (char)optopt, '\0'};

	if (optopt > 0 && optopt < 256 && strncmp(text, "--", 2) != 0)
		text = letter;
	return cli_usage(cli, c == ':' ? "option %s needs a value" : "there is no option %s", text);
}

static void take_global(struct cli *cli, int id, bool *help)
{
	switch (id % SHADOWED) {
	case OPT_STORE:
		cli->store = optarg;
		break;
	case OPT_SOCKET:
		cli->socket = optarg;
		break;
	case OPT_JSON:
		cli->json = true;
		break;
	case 'q':
		cli->quiet = true;
		break;
	case 'v':
		cli->verbose++;
		break;
	case OPT_HELP:
		*help = true;
		break;
	default:
		break;
	}
}

/*
 * Looks at every option that is there: keeps the global ones, refuses what is none. 0 to go on,
 * else *ret is the exit code. optind is the first argument then.
 */
static bool scan(struct cli *cli, int argc, char **argv, int *ret)
{
	const struct cli_verb *v = cli->verb;
	bool help = false;
	struct tables t;
	int id;

	make_tables(&t, v);
	optind = 0; /* glibc: start anew, with another table */
	opterr = 0;
	while ((id = next_option(&t, argc, argv, NULL)) != -1) {
		if (id == '?' || id == ':') {
			*ret = bad_option(cli, id, argv);
			return true;
		}
		if (id == OPT_VERSION) {
			printf("tarn %s\n", TARN_VERSION);
			*ret = 0;
			return true;
		}
		if (!is_own(v, id))
			take_global(cli, id, &help);
	}
	if (help)
		*ret = v ? help_verb(v) : help_all(stdout);
	return help;
}

static const struct cli_verb *find_verb(const char *name)
{
	for (const struct cli_verb *v = cli_verbs; v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

static int help_about(struct cli *cli, int argc, char **argv)
{
	const struct cli_verb *v = argc > 0 ? find_verb(argv[0]) : NULL;

	if (argc > 0 && !v)
		return cli_usage(cli, "there is no verb '%s'", argv[0]);
	return v ? help_verb(v) : help_all(stdout);
}

static int run_verb(struct cli *cli, int argc, char **argv)
{
	const struct cli_verb *v = cli->verb;
	int r = 0, n;

	if (scan(cli, argc, argv, &r))
		return r;
	n = argc - optind;
	if (n < v->min)
		return cli_usage(cli, "usage: tarn %s %s", v->name, v->usage);
	if (v->max >= 0 && n > v->max)
		return cli_usage(cli, "'%s' is one argument too many", argv[optind + v->max]);
	optind = 0;
	return v->run(argc, argv, cli);
}

static const char *from_env(const char *name, const char *fallback)
{
	const char *v = getenv(name);

	return v && v[0] ? v : fallback;
}

static int run_program(int argc, char **argv)
{
	struct cli cli = {
		.store = from_env("TARN_STORE", STORE_DEFAULT),
		.socket = from_env("TARN_SOCKET", SOCKET_DEFAULT),
	};
	int r = 0, at;

	if (scan(&cli, argc, argv, &r))
		return r;
	at = optind;
	if (at >= argc)
		return help_all(stderr);
	if (strcmp(argv[at], "help") == 0)
		return help_about(&cli, argc - at - 1, argv + at + 1);
	cli.verb = find_verb(argv[at]);
	if (!cli.verb)
		return cli_usage(&cli, "there is no verb '%s'", argv[at]);
	return run_verb(&cli, argc - at, argv + at);
}

int cli_main(int argc, char **argv)
{
	int r = run_program(argc, argv);

	if (fflush(stdout) != 0 && r == 0) {
		fprintf(stderr, "tarn: writing the output: %s\n", err_words(errno));
		r = 1;
	}
	return r;
}
