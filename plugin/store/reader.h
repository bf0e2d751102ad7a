/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_READER_H
#define PLUGIN_STORE_READER_H

#include <stddef.h>

#include "oci/base/limits.h"
#include "plugin/fill/wire.h"

struct buf;
struct engine;
struct err;

/*
 * Documents that come from outside: fetched and parsed in a fetcher of their own, which nothing
 * else will ever use (law 7). What comes back is bytes whose digest the caller checks, or plain
 * data whose fields he checks. One job after the other. Tasks only.
 */
struct reader;

int reader_new(struct engine *en, struct reader **ret, struct err *e);
struct reader *reader_free(struct reader *d); /* NULL-safe; wipes the job */

/* The next job, borrowed and empty but for the timeouts, @at, and @what, which errors name. */
struct fetch_job *reader_begin(struct reader *d, enum fetch_kind op, const struct registry_at *at,
			       const char *what);

/* Runs it; its one answer goes to @out, and what the transport called it to @content_type. */
int reader_run(struct reader *d, struct buf *out, char content_type[LIMIT_NAME], struct err *e);

/* Runs a PARSE job over @in; the answer must be exactly @size bytes, which go to @ret. */
int reader_parse(struct reader *d, const struct buf *in, void *ret, size_t size, struct err *e);

#endif
