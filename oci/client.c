/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oci/account.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/follow.h"
#include "oci/http.h"
#include "oci/registry.h"
#include "oci/url.h"

/* Signed URLs can be valid for as little as minutes; an old one costs one vain request. */
#define LOCATION_MS (5 * 60 * 1000)
/* Sent at most: with the old token, with none, with the new one. */
#define SENDS 3

/* Where a blob was found. */
struct location {
	uint64_t account; /* id; 0 = free */
	char reference[DIGEST_TEXT];
	char *url; /* owned, wiped: its signature opens the blob to anyone */
	uint64_t until_ms;
};

struct client {
	struct http *http;         /* owned */
	struct accounts *accounts; /* owned */
	unsigned retry_after_s;
	struct location at[LIMIT_LOCATIONS];
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- remembered storage URLs ----------------------------------------------------------------- */

static void location_clear(struct location *l)
{
	if (l->url)
		explicit_bzero(l->url, strlen(l->url));
	free(l->url);
	*l = (struct location){.url = NULL};
}

static struct location *location_find(struct client *c, uint64_t account, const char *reference)
{
	for (size_t i = 0; i < LIMIT_LOCATIONS; i++) {
		struct location *l = &c->at[i];

		if (l->account == account && strcmp(l->reference, reference) == 0)
			return l;
	}
	return NULL;
}

/* Forgetting to remember costs a request, so failures here are nobody's. */
static void location_keep(struct client *c, uint64_t account, const char *reference, char *url)
{
	struct location *l = location_find(c, account, reference);

	if (strlen(reference) >= sizeof(l->reference))
		return;
	for (size_t i = 0; !l && i < LIMIT_LOCATIONS; i++)
		if (!c->at[i].account)
			l = &c->at[i];
	if (!l) {
		l = &c->at[0];
		for (size_t i = 1; i < LIMIT_LOCATIONS; i++)
			if (c->at[i].until_ms < l->until_ms)
				l = &c->at[i];
	}
	location_clear(l);
	l->url = strdup(url);
	if (!l->url)
		return;
	l->account = account;
	memcpy(l->reference, reference, strlen(reference) + 1);
	l->until_ms = now_ms() + LOCATION_MS;
}

void client_forget(struct client *c, const struct registry_at *at, const char *reference)
{
	struct account *a;
	struct location *l;
	uint64_t id;

	if (account_find(c->accounts, at, &a, &id) < 0)
		return;
	l = location_find(c, id, reference);
	if (l)
		location_clear(l);
}

/* --- the object ------------------------------------------------------------------------------ */

int client_new(const struct http_options *opt, struct client **ret, struct err *e)
{
	struct client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_errno(e, -ENOMEM, "registry client");
	c->accounts = accounts_new();
	if (c->accounts)
		r = http_new(opt, &c->http, e);
	else
		r = err_errno(e, -ENOMEM, "registry client");
	if (r < 0) {
		client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct client *client_free(struct client *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < LIMIT_LOCATIONS; i++)
		location_clear(&c->at[i]);
	accounts_free(c->accounts);
	http_free(c->http);
	free(c);
	return NULL;
}

unsigned client_retry_after(const struct client *c)
{
	return c->retry_after_s;
}

/* --- one request ----------------------------------------------------------------------------- */

static bool is_answer(int status)
{
	return status == 200 || status == 206;
}

static struct http_request request_of(const struct client_request *rq, const char *url)
{
	return (struct http_request){
		.what = rq->what,
		.url = url,
		.accept = rq->accept,
		.insecure_tls = rq->at->insecure_tls,
		.ranged = rq->ranged,
		.off = rq->off,
		.len = rq->len,
	};
}

static int fail_status(struct client *c, struct http_call *call, const struct client_request *rq,
		       const char *url, struct err *e)
{
	c->retry_after_s = follow_retry_after(call);
	return follow_failure(call, rq->what, url, e);
}

/* Storage says so when a signature is over, and when it has moved the object. */
static bool is_stale_location(int status)
{
	return status == 400 || status == 401 || status == 403 || status == 404 || status == 410;
}

/* Asks the remembered URL. 1: here is the answer; 0: there is none, or no more. */
static int get_remembered(struct client *c, const struct client_request *rq, uint64_t account,
			  struct http_call **ret, struct err *e)
{
	_cleanup_(http_call_freep) struct http_call *call = NULL;
	_cleanup_(follow_clear) struct follow where = {.url = NULL};
	struct location *l = location_find(c, account, rq->reference);
	struct http_request one;
	int status, r;

	if (!l || !rq->remember)
		return 0;
	if (now_ms() >= l->until_ms) {
		location_clear(l);
		return 0;
	}
	one = request_of(rq, l->url);
	r = follow_open(c->http, &one, &where, &call, e);
	if (r < 0) {
		location_clear(l);
		return r;
	}
	status = http_call_status(call);
	if (is_answer(status)) {
		*ret = take_ptr(call);
		return 1;
	}
	if (!is_stale_location(status))
		return fail_status(c, call, rq, where.url, e);
	location_clear(l);
	return 0;
}

/*
 * What to do about a 401 or 403 from the registry. 1: ask again, *@call is gone; 0: it is the
 * last word, *@call is untouched; or a failure. *@fresh: the authorization is of this request.
 */
static int authorize(struct client *c, struct account *a, const struct client_request *rq,
		     struct http_call **call, bool *fresh, struct err *e)
{
	bool had = account_authorization(a) != NULL;
	int r;

	if (*fresh)
		return 0;
	if (http_call_status(*call) == 403) {
		account_forget(a);
		return had ? 1 : 0;
	}
	r = account_answer(a, c->http, call, rq->what, e);
	if (r == 0) {
		*fresh = true;
		return 1;
	}
	/* Some registries name another token server to those whose token is over: start anew. */
	account_forget(a);
	return had ? 1 : r;
}

static int get_from_registry(struct client *c, const struct client_request *rq, struct account *a,
			     uint64_t id, struct http_call **ret, struct err *e)
{
	_cleanup_free_ char *url = NULL;
	bool fresh = false;
	int r;

	r = url_registry(rq->at, rq->kind, rq->reference, &url, e);
	if (r < 0)
		return r;
	for (int sends = 1;; sends++) {
		_cleanup_(http_call_freep) struct http_call *call = NULL;
		_cleanup_(follow_clear) struct follow where = {.url = NULL};
		struct http_request one = request_of(rq, url);
		int status;

		one.authorization = account_authorization(a);
		r = follow_open(c->http, &one, &where, &call, e);
		if (r < 0)
			return r;
		status = http_call_status(call);
		if (is_answer(status)) {
			if (rq->remember && where.foreign)
				location_keep(c, id, rq->reference, where.url);
			*ret = take_ptr(call);
			return 0;
		}
		r = 0;
		if ((status == 401 || status == 403) && !where.foreign && sends < SENDS)
			r = authorize(c, a, rq, &call, &fresh, e);
		if (r < 0)
			return r;
		if (r == 0)
			return fail_status(c, call, rq, where.url, e);
	}
}

int client_get(struct client *c, const struct client_request *rq, struct http_call **ret,
	       struct err *e)
{
	struct account *a;
	uint64_t id;
	int r;

	c->retry_after_s = 0;
	r = account_find(c->accounts, rq->at, &a, &id);
	if (r < 0)
		return err_errno(e, r, "%s", rq->what);
	r = get_remembered(c, rq, id, ret, e);
	if (r != 0)
		return r < 0 ? r : 0;
	account_refresh(a, c->http);
	return get_from_registry(c, rq, a, id, ret, e);
}
