/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_BUNDLE_H
#define PLUGIN_CLI_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>

#include "oci/bundle.h"

struct cli;
struct err;

/* A runtime bundle as `tarn bundle` and `tarn run` are asked for one. */
struct bundle_want {
	const char *image; /* borrowed: a name or a digest */
	bool read_only, terminal, host_net;
	bool keep;        /* the writable layer outlives the container */
	const char **env; /* owned (not the strings), as the next two */
	size_t nenv;
	struct bundle_volume *volumes; /* owned, with the paths */
	size_t nvolumes;
	char **args; /* borrowed: what comes after the image */
	size_t nargs;
};

void bundle_want_free(struct bundle_want *w);
#define _cleanup_bundle_want_ __attribute__((cleanup(bundle_want_free)))

/*
 * Takes an option that both verbs have (table.c), with its value in `optarg`. 0, or the exit code
 * after the words.
 */
int bundle_take_option(const struct cli *cli, int id, struct bundle_want *w);

/*
 * Makes @dir, which must be empty or not be there, a bundle: config.json and an empty rootfs/. What
 * the image says is only read in a process without rights. After a failure everything is as before.
 */
int bundle_make(const struct cli *cli, const struct bundle_want *w, const char *dir, struct err *e);

#endif
