/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_START_H
#define PLUGIN_START_H

#include <stdatomic.h>
#include <stdint.h>

#include "oci/base/err.h"

struct slots;

/*
 * Why a tarnd cannot start (law 12). What fails once it has been ready is tried again for ever,
 * since readers wait for it. Before that it is the end: whichever process finds out tells it here,
 * in the memory that all of them share, and the guardian prints it and exits.
 */
struct start_failure {
	_Atomic uint32_t state; /* enum start_state; written once */
	int32_t code;           /* negative errno */
	char text[ERR_TEXT_MAX];
};

/*
 * "@what: ..." failed, for the reason in @e (or @code, when that says nothing). Before the first
 * engine is ready it is kept for start_status(), the first one told; after that it is logged.
 */
void start_failed(struct slots *s, const char *what, int code, const struct err *e);

/* guardian: prints the reason, @fallback if none was told. Returns tarnd's exit status. */
int start_status(struct slots *s, const char *fallback);

/* The exit status for a failure: 3 for what this kernel or file system cannot do. */
int start_exit(int code);

#endif
