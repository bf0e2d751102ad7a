/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_ARGS_H
#define HOOKS_ARGS_H

#include <stdbool.h>

struct err;

/*
 * The command line of runc and crun, as far as tarn-runtime has to understand it:
 *
 *	[global options] COMMAND [options] CONTAINER
 *
 * runc takes options with one dash or two and values after '=' or as the next argument, crun those
 * of getopt_long(). An option that nobody here knows is passed on and taken to have no value.
 */
struct args {
	char **argv; /* owned (not the strings): what the real runtime gets, NULL at the end */
	int argc;
	const char *command; /* NULL: none was given */
	const char *id;      /* of create and run; NULL: missing */
	const char *bundle;  /* of create and run; "." when not given */
	const char *config;  /* crun's --config: another file than config.json; or NULL */
	const char *log;     /* where the engine reads errors, or NULL */
	bool log_json;
	const char *runtime; /* --tarn-runtime, not passed on */
	const char *socket;  /* --tarn-socket, not passed on */
};

/* @argv[0] is the program. Free with args_free(). -EINVAL: an option of ours without a value. */
int args_parse(int argc, char **argv, struct args *ret, struct err *e);
void args_free(struct args *a);

/* Is it one that needs the root file system: create or run? */
bool args_starts(const struct args *a);

#define _cleanup_args_ __attribute__((cleanup(args_free)))

#endif
