/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_HTTP_CALL_H
#define OCI_HTTP_CALL_H

/* What the files of the HTTP client share; nobody else includes this. */

#include <curl/curl.h>

#include "oci/http.h"

/* What may arrive beyond the reader's buffer before the transfer pauses. */
#define SPILL (64u << 10)
/* One receive; with SPILL and libcurl's own pause buffer this bounds the memory of a call. */
#define RECEIVE (64L << 10)
/* libcurl hands over at most this in one call, and takes all or nothing back. */
_Static_assert(SPILL >= CURL_MAX_WRITE_SIZE, "a piece must fit the spill");

struct http {
	CURLM *multi; /* owned */
	CURL *easy;   /* owned; the one transfer */
	struct http_options opt;
	char *user_agent; /* owned */
	bool busy;
};

struct http_call {
	struct http *h;             /* borrowed */
	char *what;                 /* owned */
	struct curl_slist *headers; /* owned, wiped */
	struct curl_slist *resolve; /* owned */
	char *form;                 /* owned, wiped */
	bool added;
	bool head_done; /* all headers of the final answer are here */
	bool done;
	bool paused;
	CURLcode result;     /* once done */
	const char *refused; /* why a callback ended the transfer, or NULL */
	uint64_t progress;   /* bytes of any kind, for the stall clock */
	size_t head_bytes;
	uint8_t *dst; /* borrowed from http_call_read() while it runs */
	size_t dst_size;
	size_t dst_len;
	size_t spill_off;
	size_t spill_len;
	char errbuf[CURL_ERROR_SIZE];
	uint8_t spill[SPILL];
};

/* Copies what @rq asks for into the call: its headers, form, and the server's address. */
int http_call_build(struct http_call *c, const struct http_request *rq, struct err *e);

/* Sets the transfer up from what was built; @rq need not outlive the next step. */
void http_call_setup(struct http_call *c, const struct http_request *rq);

/* Words and code for a transfer that is done and has failed. */
int http_call_failure(struct http_call *c, struct err *e);

/* libcurl's callbacks; @arg is the call. */
size_t http_on_header(char *p, size_t size, size_t n, void *arg);
size_t http_on_body(char *p, size_t size, size_t n, void *arg);

/* Frees what was built; secrets are wiped. */
void http_call_unbuild(struct http_call *c);

#endif
