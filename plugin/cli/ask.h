/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_ASK_H
#define PLUGIN_CLI_ASK_H

#include "oci/base/buf.h"

struct cli;
struct err;
struct json;
struct json_gen;
struct json_text;

/* A request to tarnd: opened, its arguments put with `g`, then sent by ask(). */
struct request {
	struct buf text;    /* owned */
	struct json_gen *g; /* owned; the map is open */
};

/* What came back. */
struct answer {
	struct json *rows; /* owned; an array of what came as rows */
	struct json *done; /* owned; see answer_done() */
};

int request_open(struct request *rq, const char *verb, struct err *e);
void request_free(struct request *rq);
#define _cleanup_request_ __attribute__((cleanup(request_free)))

/* Sends @rq and waits for the end; progress is shown unless -q. @ret is freed with answer_free().
 */
int ask(const struct cli *cli, struct request *rq, struct answer *ret, struct err *e);
const struct json *answer_done(const struct answer *a);
void answer_free(struct answer *a);
#define _cleanup_answer_ __attribute__((cleanup(answer_free)))

/* A JSON text for stdout is opened, put with @t->g and printed, with a newline. */
void print_open(struct json_text *t);
/* 0, or an exit code when the output cannot be made. The caller frees it in any case. */
int print_json(const struct cli *cli, struct json_text *t);
/* The same of a value that is there already. */
int print_value(const struct cli *cli, const struct json *value);

#endif
