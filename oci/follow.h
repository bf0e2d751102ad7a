/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_FOLLOW_H
#define OCI_FOLLOW_H

#include <stdbool.h>

#include "oci/http.h"

/*
 * Requests that go where redirects lead. Authorization is sent only to the origin (scheme, host
 * and port) of the first URL, and no more once a redirect has left it, even if one leads back:
 * storage refuses a signature and a header together, and the registry's credentials are nobody
 * else's. From https the way never leads to http.
 */
struct follow {
	char *url;    /* owned; where the answer came from in the end */
	bool foreign; /* that is not the first URL's origin */
};

void follow_clear(struct follow *f);

/*
 * http_open() that follows 301, 302, 303, 307 and 308, at most LIMIT_REDIRECTS times; the call
 * returned has another status. @ret is written on success only. POSTs are not followed.
 */
int follow_open(struct http *h, const struct http_request *rq, struct follow *ret_where,
		struct http_call **ret, struct err *e);

/*
 * The failure that an HTTP status stands for, worded with the registry's own error code: 404 and
 * 410 -ENOENT, 401 and 403 -EACCES, 408, 425, 429 and 5xx -EAGAIN, anything else -EPROTO. Reads
 * the body for that. Nothing else of what the server wrote is quoted: it may hold secrets.
 */
int follow_failure(struct http_call *c, const char *what, const char *url, struct err *e);

/*
 * Seconds the answer asks us to wait (Retry-After, at most an hour), or 0. A date counts from the
 * answer's own Date, so that nobody's clock need be right; without that from ours.
 */
unsigned follow_retry_after(struct http_call *c);

#endif
