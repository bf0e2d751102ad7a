/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_PROTO_H
#define PLUGIN_CTL_PROTO_H

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct err;
struct json;
struct json_gen;
struct json_text;

/*
 * The control socket: AF_UNIX SOCK_SEQPACKET, one JSON object per message of at most
 * LIMIT_CTL_MESSAGE bytes, descriptors by SCM_RIGHTS.
 *
 *   client → {"verb":"pull", ...arguments}                       one request per connection
 *   server → {"progress":{"text":…,"done":N,"total":N}}          any number, long work
 *   server → {"row":{…}}                                         any number, listings
 *   server → {"done":{…}}                                        the end, perhaps with fds
 *   server → {"error":{"text":…,"exit":1|2|3,"code":errno,       the end
 *                     "links":[…],"cause":errno}}
 *
 * "text" is the "links", outermost first, with ": " between; "cause" is the errno whose words the
 * last one is, or 0.
 *
 * A client that closes its end cancels what it asked for, at the next safe point.
 */

/* --- client side (tarn, tarn-hook, tarn-runtime): blocking --- */
struct ctl_client;

/* Connects. Failure says that tarnd is not running and how to start it. */
int ctl_connect(const char *socket_path, struct ctl_client **ret, struct err *e);
struct ctl_client *ctl_client_free(struct ctl_client *c);

static inline void ctl_client_freep(struct ctl_client **c)
{
	ctl_client_free(*c);
}

struct ctl_handlers {
	void (*row)(void *ctx, const struct json *row);
	void (*progress)(void *ctx, const char *text, int64_t done, int64_t total);
	void *ctx;
};

/*
 * Sends @request (a whole JSON object) and runs until the end. @ret_done (may be NULL) gets the
 * "done" document: the caller frees it with json_free() and looks inside json_get(doc, "done").
 * @ret_fd (may be NULL) gets the descriptor that came with it, or -1. An error answer becomes
 * @e; its "exit" is recovered with ctl_exit_code().
 */
int ctl_request(struct ctl_client *c, struct buf *request, const struct ctl_handlers *h,
		struct json **ret_done, int *ret_fd, struct err *e);

/* What a program should exit with for an error: 3 for -EOPNOTSUPP, 2 for -EINVAL from usage,
 * else 1. */
int ctl_exit_code(const struct err *e);

/* --- server side (engine) --- */
struct engine;
struct ctl_server;

/* @listen_fd is owned by the server from now on. */
int ctl_server_new(struct engine *en, int listen_fd, struct ctl_server **ret);
/*
 * Accepts nobody any more and lets running verbs know that they are to end (ctl_cancelled()).
 * They need the loop to end: it must run until ctl_server_busy() says 0. Loop thread.
 */
void ctl_server_stop(struct ctl_server *s);
uint32_t ctl_server_busy(const struct ctl_server *s); /* requests that threads work on */
/* NULL-safe; stops first. What a thread still uses is left to the end of the process. */
struct ctl_server *ctl_server_free(struct ctl_server *s);

/* A request being served, in a thread of its own. */
struct ctl_task {
	struct engine *en;       /* borrowed; touch only through loop_call() */
	const struct json *args; /* the request */
	int sock;                /* owned by the server */
	uint32_t uid;            /* of the client, SO_PEERCRED */
	int32_t pid;
	int reply_fd; /* set by the verb: sent with "done", then closed; -1 none */
};

/* A row: opened, its members put with @row->g, then sent; the caller frees it in any case. */
void ctl_row_open(struct json_text *row);
/* This and progress: -EPIPE when the client went away (then stop the work). */
int ctl_row_send(struct ctl_task *t, struct json_text *row);
int ctl_send_progress(struct ctl_task *t, const char *text, uint64_t done, uint64_t total);
bool ctl_cancelled(struct ctl_task *t);

/*
 * A verb: writes its "done" members with @done (a map that is already open) and returns 0, or
 * words the failure in @e. verbs.c has the table.
 */
struct ctl_verb {
	const char *name;
	int (*run)(struct ctl_task *t, struct json_gen *done, struct err *e);
};
extern const struct ctl_verb ctl_verbs[]; /* ends with a NULL name */

#endif
