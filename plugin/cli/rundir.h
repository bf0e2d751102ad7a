/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_RUNDIR_H
#define PLUGIN_CLI_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>

#include "oci/base/limits.h"

struct cli;
struct err;

/*
 * The directories that `tarn run` makes for its bundles, below the run directory:
 *
 *	run-ID-XXXXXX      ID is the container's
 *
 * Whoever has one holds a lock on it (flock) until it is removed. One that nobody has locked was
 * left behind by a `tarn run` that was killed; its container may live on all the same.
 */

/* @ret_lock is the caller's to close, after rundir_remove(). */
int rundir_make(const char *id, char path[LIMIT_PATH], int *ret_lock, struct err *e);
void rundir_remove(const char *path);

/* What was removed. */
struct rundir_gone {
	char (*v)[LIMIT_NAME]; /* owned; names */
	size_t n;
};

/* Removes what was left behind and has no container any more. */
int rundir_collect(const struct cli *cli, struct rundir_gone *ret, struct err *e);
void rundir_gone_free(struct rundir_gone *g);
#define _cleanup_rundir_gone_ __attribute__((cleanup(rundir_gone_free)))

/* The id in a name, which is cut for it. False: it is not such a directory's. */
bool rundir_id(char *name);

#endif
