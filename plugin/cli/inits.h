/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_INITS_H
#define PLUGIN_CLI_INITS_H

#include <stddef.h>
#include <stdint.h>

#include "oci/base/limits.h"

/*
 * The first process of every container whose root directory is a root file system of tarn.
 * tarnd is asked for those of tarn-runtime before there is such a process, so it is looked for: by
 * what is mounted at a process's root directory, which nobody in a container can choose.
 */
struct inits {
	struct init *v; /* owned */
	size_t n;
};

struct init {
	char id[LIMIT_ID]; /* the container's */
	char dev[32];      /* of its root file system, "major:minor" */
	uint64_t start;    /* in clock ticks: the first process is the oldest */
	int32_t pid;
};

/* Empty where nothing may be seen. Free with inits_free(). */
void inits_find(struct inits *ret);
void inits_free(struct inits *in);
#define _cleanup_inits_ __attribute__((cleanup(inits_free)))

/* 0 when there is none, or when two tarnds have a container of that name. */
int32_t inits_pid(const struct inits *in, const char *id);

/* The container's id from the options of its root's overlay; 0 or -ENOENT. */
int inits_id(const char *options, char out[LIMIT_ID]);

#endif
