/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_STATE_H
#define HOOKS_STATE_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct json;

/* The state of a container that runtimes hand to hooks on stdin (runtime-spec runtime.md). */
struct state {
	struct json *doc;   /* owned */
	const char *id;     /* borrowed from doc; checked with attach_id_check() */
	const char *bundle; /* absolute */
	int32_t pid;        /* 0: it has none any more */
	bool stopped;
};

/* Reads @fd to its end. Free with state_free(), also after a failure. */
int state_read(int fd, struct state *ret, struct err *e);
void state_free(struct state *s);

#define _cleanup_state_ __attribute__((cleanup(state_free)))

#endif
