/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_HTTP_H
#define OCI_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/proxies.h"

struct err;

/*
 * One HTTP exchange at a time over kept connections, pulled by the caller. This is the only
 * module that knows libcurl's transfers.
 *
 * Nothing is read that the caller has not asked for: http_call_read() runs the transfer until
 * there are bytes, and what arrives beyond the caller's buffer is held in a small spill; when
 * that is full the transfer pauses and TCP slows the server down.
 *
 * No file is opened (no .netrc, cookies, alt-svc, HSTS; with a CA bundle as text no CA file
 * either) once the first object of the process is made, which reads OpenSSL's settings and the
 * time zone; the latter again and again unless TZ is set, so a process without files sets it.
 * Nothing is taken from the environment, no signal is used, redirects are left to the caller.
 */
struct http;

struct http_options {
	uint32_t connect_timeout_ms; /* > 0 */
	uint32_t stall_timeout_ms;   /* > 0 */
	const char *ca_pem;          /* borrowed for the life of the object; NULL = system's */
	size_t ca_pem_len;
	const char *user_agent; /* copied; not NULL */
	struct proxies proxies;
	/* As in struct registry_options. */
	int (*resolve)(void *arg, const char *host, char *out, size_t size);
	void *resolve_arg; /* borrowed */
};

int http_new(const struct http_options *opt, struct http **ret, struct err *e);
struct http *http_free(struct http *h); /* NULL-safe; no call may be open */

struct http_request {
	const char *what; /* names the request in errors; URLs hold signatures and are not shown */
	const char *url;
	const char *accept;        /* NULL: anything */
	const char *authorization; /* the header's whole value, or NULL */
	const char *form;          /* NULL: GET; else POST of this form */
	bool insecure_tls;
	bool ranged; /* ask for bytes [off, off + len) */
	uint64_t off;
	uint64_t len;
};

/* One exchange, from the request on. */
struct http_call;

/*
 * Sends @rq (borrowed until this returns, wiped copies only after) and waits for the headers of
 * the answer. -EBUSY while another call is open. Other failures are of the transport:
 * -ETIMEDOUT, -ECONNREFUSED, -ECONNRESET, -EHOSTUNREACH (no such name), -EKEYREJECTED (the
 * server's certificate), -EPROTO (not HTTP, or headers past LIMIT_HTTP_HEADERS).
 */
int http_open(struct http *h, const struct http_request *rq, struct http_call **ret, struct err *e);

/*
 * Gives the connection back. A short rest of the body is read off for that (bounded in bytes and
 * in time); else the connection is closed.
 */
struct http_call *http_call_free(struct http_call *c);

static inline void http_call_freep(struct http_call **c)
{
	http_call_free(*c);
}

int http_call_status(const struct http_call *c);

/*
 * The @i-th header of that name, or NULL. Borrowed: until http_call_free() (until the next
 * http_call_header() on older libcurl, so copy before asking again).
 */
const char *http_call_header(struct http_call *c, const char *name, size_t i);
/* The only header of that name: NULL when there is none or several. */
const char *http_call_header_only(struct http_call *c, const char *name);

/* Seconds since 1970 of a date as headers have it, or -1. */
int64_t http_date(const char *text);

/* The body's length as announced, or -1. */
int64_t http_call_length(const struct http_call *c);

/*
 * Up to @n bytes of body: > 0, 0 at its end, or a failure as in http_open(). -ETIMEDOUT once no
 * byte has come for the stall timeout, counted while waiting here; a body that ends before its
 * announced length is -ECONNRESET.
 */
ssize_t http_call_read(struct http_call *c, void *buf, size_t n, struct err *e);

/* Bytes that have arrived and have not been read. */
size_t http_call_pending(const struct http_call *c);

#endif
