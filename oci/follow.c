/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/follow.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "oci/url.h"

/* Of an error's body; distribution-spec errors are some hundred bytes. */
#define ERROR_BODY (16u << 10)
/* Longest code we show, and the codes of the specification fit. */
#define ERROR_CODE       40
#define RETRY_AFTER_MOST 3600

void follow_clear(struct follow *f)
{
	free(f->url);
	*f = (struct follow){.url = NULL};
}

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Moves @w to where the answer @c points. */
static int step(struct follow *w, struct http_call *c, const char *what, struct err *e)
{
	const char *location = http_call_header_only(c, "Location");
	char host[LIMIT_NAME];
	char *next;
	int r;

	if (!location)
		return err_set(e, -EPROTO, "%s: %s redirects (%d) to nowhere", what,
			       url_host(w->url, host), http_call_status(c));
	r = url_follow(w->url, location, &next, e);
	if (r < 0)
		return err_wrap(e, r, "%s", what);
	if (!url_same_origin(w->url, next))
		w->foreign = true;
	free(w->url);
	w->url = next;
	return 0;
}

int follow_open(struct http *h, const struct http_request *rq, struct follow *ret_where,
		struct http_call **ret, struct err *e)
{
	_cleanup_(follow_clear) struct follow w = {.url = strdup(rq->url)};
	struct http_request one = *rq;
	int r;

	if (!w.url)
		return err_errno(e, -ENOMEM, "%s", rq->what);
	for (int hop = 0; hop <= LIMIT_REDIRECTS; hop++) {
		_cleanup_(http_call_freep) struct http_call *c = NULL;

		one.url = w.url;
		if (w.foreign)
			one.authorization = NULL;
		r = http_open(h, &one, &c, e);
		if (r < 0)
			return r;
		if (rq->form || !is_redirect(http_call_status(c))) {
			*ret_where = w;
			w.url = NULL;
			*ret = take_ptr(c);
			return 0;
		}
		r = step(&w, c, rq->what, e);
		if (r < 0)
			return r;
	}
	return err_set(e, -EPROTO, "%s: more than %d redirects", rq->what, LIMIT_REDIRECTS);
}

/* --- statuses -------------------------------------------------------------------------------- */

static int status_code(int status)
{
	if (status == 404 || status == 410)
		return -ENOENT;
	if (status == 401 || status == 403)
		return -EACCES;
	if (status == 408 || status == 425 || status == 429 || status >= 500)
		return -EAGAIN;
	return -EPROTO;
}

static const char *status_words(int status)
{
	switch (status) {
	case 400:
		return "the request was refused";
	case 401:
		return "not authorised";
	case 403:
		return "access denied";
	case 404:
	case 410:
		return "not found";
	case 416:
		return "no such byte range";
	case 429:
		return "too many requests";
	default:
		return status >= 500 ? "the server failed" : "unexpected answer";
	}
}

/* Codes are words like MANIFEST_UNKNOWN; anything else is not shown. */
static bool code_valid(const char *code)
{
	size_t n = 0;

	while (isupper((unsigned char)code[n]) || isdigit((unsigned char)code[n]) || code[n] == '_')
		n++;
	return n > 0 && n < ERROR_CODE && !code[n];
}

/* errors[0].code of a distribution-spec error body into @out, as " CODE", or "". */
static void read_code(struct http_call *c, char out[ERROR_CODE + 1])
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf body;
	const char *code;
	ssize_t n;
	void *p;

	out[0] = '\0';
	buf_init(&body, ERROR_BODY);
	while ((p = buf_reserve(&body, 2048))) {
		n = http_call_read(c, p, 2048, NULL);
		if (n <= 0)
			break;
		buf_commit(&body, (size_t)n);
	}
	if (json_parse(body.data, body.len, ERROR_BODY, "error", &doc, NULL) < 0)
		return;
	code = json_get_str(json_at(json_get(doc, "errors"), 0), "code");
	if (code && code_valid(code))
		snprintf(out, ERROR_CODE + 1, " %s", code);
}

static unsigned seconds_until(struct http_call *c, const char *date)
{
	const char *said = http_call_header_only(c, "Date");
	int64_t then = http_date(date), now = said ? http_date(said) : -1;

	if (now < 0)
		now = time(NULL);
	if (then <= now)
		return 0;
	return then - now < RETRY_AFTER_MOST ? (unsigned)(then - now) : RETRY_AFTER_MOST;
}

unsigned follow_retry_after(struct http_call *c)
{
	const char *v = http_call_header_only(c, "Retry-After");
	char date[64];
	unsigned s = 0;

	if (!v || !*v)
		return 0;
	if (isalpha((unsigned char)*v)) {
		/* A copy: the next header may take its place. */
		snprintf(date, sizeof(date), "%s", v);
		return seconds_until(c, date);
	}
	for (; isdigit((unsigned char)*v) && s < RETRY_AFTER_MOST; v++)
		s = s * 10 + (unsigned)(*v - '0');
	if (s > RETRY_AFTER_MOST)
		s = RETRY_AFTER_MOST;
	return *v && !isdigit((unsigned char)*v) ? 0 : s;
}

int follow_failure(struct http_call *c, const char *what, const char *url, struct err *e)
{
	int status = http_call_status(c);
	char code[ERROR_CODE + 1];
	char host[LIMIT_NAME];
	char wait[48] = "";
	unsigned s = follow_retry_after(c);

	read_code(c, code);
	if (s > 0)
		snprintf(wait, sizeof(wait), ", to be asked again in %u s", s);
	return err_set(e, status_code(status), "%s: %s (%s answered %d%s%s)", what,
		       status_words(status), url_host(url, host), status, code, wait);
}
