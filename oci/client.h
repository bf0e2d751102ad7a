/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CLIENT_H
#define OCI_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

struct client;
struct err;
struct http_call;
struct http_options;
struct registry_at;

/*
 * One GET of the distribution API, with all that may have to happen before its answer: tokens,
 * redirects, and storage URLs remembered from earlier answers.
 *
 * Order of things. A remembered storage URL is asked first, without credentials; 400, 401, 403,
 * 404 and 410 from it, or a broken connection, make it forgotten, and a status of these sends us
 * to the registry, once. At the registry a 401 is answered by the token flow; a 403 to an
 * authorization from earlier makes us ask again with none (some registries say 403 when a token
 * is over). An authorization fetched for this very request is not fetched again.
 * Challenges from a host we were redirected to are not answered.
 */
int client_new(const struct http_options *opt, struct client **ret, struct err *e);
struct client *client_free(struct client *c);

struct client_request {
	const struct registry_at *at;
	const char *kind;      /* "manifests" or "blobs" */
	const char *reference; /* tag or digest */
	const char *accept;    /* NULL: anything */
	const char *what;      /* names the request in errors */
	bool remember;         /* the storage URL, under (account, reference) */
	bool ranged;
	uint64_t off;
	uint64_t len;
};

/* The answer is 200 or 206; every other status is a failure, as follow_failure() says. */
int client_get(struct client *c, const struct client_request *rq, struct http_call **ret,
	       struct err *e);

/* Makes the storage URL that client_get() may have used forgotten: its bytes were no good. */
void client_forget(struct client *c, const struct registry_at *at, const char *reference);

/* What the last -EAGAIN said about waiting (Retry-After), in seconds; 0 = nothing. */
unsigned client_retry_after(const struct client *c);

#endif
