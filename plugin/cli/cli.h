/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_CLI_H
#define PLUGIN_CLI_CLI_H

#include <stdbool.h>

struct buf;
struct err;

/*
 * The command line: one table of verbs (table.c), from which arguments are parsed and help is
 * printed. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not possible on this kernel or file
 * system.
 */

/* An option of a verb. Ends a list with `name` and `letter` both empty. */
struct cli_option {
	int id;           /* what cli_getopt() returns: the letter, or one of enum cli_opt */
	const char *name; /* long form without "--", or NULL */
	const char *arg;  /* what its value is called in help ("SIZE"), or NULL when it has none */
	const char *help;
};

enum cli_opt {
	OPT_RUNTIME = 256,
	OPT_READ_ONLY,
	OPT_RM,
	OPT_NET,
	OPT_NAME,
	OPT_KEEP,
	OPT_PLATFORM,
	OPT_TLS_VERIFY,
	OPT_AUTHFILE,
	OPT_WAIT,
	OPT_ALL,
	OPT_FREE,
	OPT_COLD_FOR,
	OPT_WAITING,
	OPT_ACKNOWLEDGE,
};

struct cli;

struct cli_verb {
	const char *name;
	const char *usage;                /* its arguments, as help shows them */
	const char *help;                 /* one line */
	const struct cli_option *options; /* NULL: none */
	bool stop;    /* options end at the first argument: the rest is a command's own */
	int min, max; /* how many arguments; max -1: any number */
	/*
	 * Gets argv[0] = its name and what followed. All options were checked before and the global
	 * ones are in @cli. Returns the exit code; whoever returns non-zero has said why.
	 */
	int (*run)(int argc, char **argv, const struct cli *cli);
};

/* The global options. */
struct cli {
	const char *store;  /* borrowed; --store, TARN_STORE */
	const char *socket; /* borrowed; --socket, TARN_SOCKET */
	bool json;
	bool quiet;  /* -q: no progress, no tables, only what failed */
	int verbose; /* -v, counted */
	const struct cli_verb *verb;
};

extern const struct cli_verb cli_verbs[]; /* ends with a NULL name */

/*
 * The next option of the verb's own: its id, with the value in `optarg`; -1 when there are no
 * more, then argv[optind] is the first argument.
 */
int cli_getopt(const struct cli *cli, int argc, char **argv);

/* "tarn: VERB: text; see tarn VERB --help" on stderr. Returns 2. */
int cli_usage(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* "tarn: text" on stderr. Returns the exit code for it. */
int cli_fail(const struct cli *cli, const struct err *e);

/* The whole program but for its name. */
int cli_main(int argc, char **argv);

int cmd_doctor(int argc, char **argv, const struct cli *cli);
int cmd_pull(int argc, char **argv, const struct cli *cli);
int cmd_images(int argc, char **argv, const struct cli *cli);
int cmd_layers(int argc, char **argv, const struct cli *cli);
int cmd_bundle(int argc, char **argv, const struct cli *cli);
int cmd_run(int argc, char **argv, const struct cli *cli);
int cmd_mount(int argc, char **argv, const struct cli *cli);
int cmd_umount(int argc, char **argv, const struct cli *cli);
int cmd_fill(int argc, char **argv, const struct cli *cli);
int cmd_evict(int argc, char **argv, const struct cli *cli);
int cmd_verify(int argc, char **argv, const struct cli *cli);
int cmd_status(int argc, char **argv, const struct cli *cli);
int cmd_pin(int argc, char **argv, const struct cli *cli);
int cmd_unpin(int argc, char **argv, const struct cli *cli);
int cmd_rm(int argc, char **argv, const struct cli *cli);
int cmd_gc(int argc, char **argv, const struct cli *cli);

#endif
