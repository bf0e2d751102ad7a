/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_DOCTOR_H
#define PLUGIN_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/base/err.h"

struct cli;

/*
 * What this machine can do is found by doing it, on throw-away files in the file system of the
 * store: version numbers lie where distributions move patches about.
 */
enum health { HEALTH_OK, HEALTH_WARN, HEALTH_MISSING };

#define CHECKS_MAX 32

struct check {
	const char *name; /* static */
	enum health health;
	char detail[ERR_TEXT_MAX];
	const char *todo; /* static; what to do about it, or NULL */
};

struct report {
	struct check v[CHECKS_MAX];
	size_t n;
};

/* HEALTH_MISSING: the main job cannot run. The text is a format. */
void report_add(struct report *rp, const char *name, enum health health, const char *todo,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* --- what needs no trial: doctor_host.c --- */
void doctor_host(struct report *rp);                          /* kernel, capabilities */
void doctor_runtimes(struct report *rp);                      /* runc, crun, podman */
void doctor_daemon(struct report *rp, const struct cli *cli); /* tarnd */

/* --- trials: doctor_events.c, doctor_mounts.c --- */

/* The directory that trials are made in, in the file system of the store. */
struct lab {
	char path[4096]; /* nearest directory to the store that is there */
	int dir;         /* owned */
	int content;     /* owned; fanotify groups, or -1 */
	int exec;
};

/* Opens it and adds the checks that need nothing else. False: no trial is possible. */
bool lab_open(struct lab *lab, const char *store, struct report *rp);
void lab_close(struct lab *lab);
/* An empty file without a name; -errno. */
int lab_file(const struct lab *lab);

void doctor_events(struct lab *lab, struct report *rp);
void doctor_mounts(struct lab *lab, struct report *rp);

/* --- a reader and who answers it: doctor_trial.c --- */

/* What the content of every trial file is: never zero, other at each block of 512 bytes. */
void pattern_fill(void *data, size_t len, uint64_t off);
bool pattern_ok(const void *data, size_t len, uint64_t off);

/*
 * Runs @fn in a child and answers the events of @group meanwhile: a range is filled with the
 * pattern and allowed, an open is denied with EBUSY. The child's exit status; -ETIMEDOUT when it
 * does not end (it is killed then). @ret_events (may be NULL) counts the events.
 */
int trial_run(int group, int (*fn)(void *ctx), void *ctx, unsigned *ret_events);

/*
 * The same, but the child is killed when its first event comes, and only then the range is filled
 * and allowed. 0, -ETIMEDOUT when no event came.
 */
int trial_kill(int group, int (*fn)(void *ctx), void *ctx);

#endif
