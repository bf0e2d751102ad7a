/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/account.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "oci/auth.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/follow.h"
#include "oci/http.h"
#include "oci/url.h"

struct account {
	struct registry_at at;
	uint64_t id;
	uint64_t used;              /* the table's clock */
	char *authorization;        /* owned, wiped; NULL = none */
	uint64_t stale_at_ms;       /* UINT64_MAX for Basic */
	struct auth_challenge last; /* scheme AUTH_OTHER = none yet */
};

struct accounts {
	struct account *slot[LIMIT_ACCOUNTS]; /* owned */
	uint64_t clock;
	uint64_t next_id;
};

/* Counts while the machine sleeps, as the token server's clock does. */
static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- the table ------------------------------------------------------------------------------- */

struct accounts *accounts_new(void)
{
	return calloc(1, sizeof(struct accounts));
}

static void account_free(struct account *a)
{
	if (!a)
		return;
	auth_wipe(a->authorization);
	explicit_bzero(a, sizeof(*a));
	free(a);
}

struct accounts *accounts_free(struct accounts *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < LIMIT_ACCOUNTS; i++)
		account_free(t->slot[i]);
	free(t);
	return NULL;
}

static bool same_at(const struct registry_at *a, const struct registry_at *b)
{
	return strcmp(a->host, b->host) == 0 && strcmp(a->repo, b->repo) == 0 &&
	       a->plain_http == b->plain_http && a->insecure_tls == b->insecure_tls &&
	       strcmp(a->user, b->user) == 0 && strcmp(a->secret, b->secret) == 0;
}

static bool terminated(const struct registry_at *at)
{
	return memchr(at->host, 0, sizeof(at->host)) && memchr(at->repo, 0, sizeof(at->repo)) &&
	       memchr(at->user, 0, sizeof(at->user)) && memchr(at->secret, 0, sizeof(at->secret));
}

/* The slot that @at has, else a free one, else the one used longest ago. */
static size_t slot_for(const struct accounts *t, const struct registry_at *at)
{
	size_t best = 0;

	for (size_t i = 0; i < LIMIT_ACCOUNTS; i++) {
		if (!t->slot[i])
			return i; /* slots are filled in order and never emptied */
		if (same_at(&t->slot[i]->at, at))
			return i;
		if (t->slot[i]->used < t->slot[best]->used)
			best = i;
	}
	return best;
}

int account_find(struct accounts *t, const struct registry_at *at, struct account **ret,
		 uint64_t *ret_id)
{
	struct account *a;
	size_t i;

	if (!terminated(at))
		return -EINVAL;
	i = slot_for(t, at);
	if (!t->slot[i] || !same_at(&t->slot[i]->at, at)) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return -ENOMEM;
		a->at = *at;
		a->id = ++t->next_id;
		account_free(t->slot[i]);
		t->slot[i] = a;
	}
	t->slot[i]->used = ++t->clock;
	*ret = t->slot[i];
	*ret_id = t->slot[i]->id;
	return 0;
}

const char *account_authorization(const struct account *a)
{
	return a->authorization;
}

void account_forget(struct account *a)
{
	a->authorization = auth_wipe(a->authorization);
}

/* --- the token server ------------------------------------------------------------------------ */

/* What we hold may go to @url: encrypted, or to the very host the user chose plain HTTP for. */
static bool may_send_secret(const struct account *a, const char *url)
{
	_cleanup_free_ char *registry = NULL;

	if (url_is_https(url))
		return true;
	if (!a->at.plain_http || asprintf(&registry, "http://%s/", a->at.host) < 0) {
		registry = NULL;
		return false;
	}
	return url_same_host(registry, url);
}

/* Reads a token answer whole; room is made once, so that no copy stays behind in freed memory. */
static int read_token(struct http_call *c, char **ret, uint32_t *ret_expires_s, struct err *e)
{
	uint8_t *text = malloc(LIMIT_TOKEN_ANSWER);
	size_t len = 0;
	ssize_t n = 0;
	int r;

	if (!text)
		return err_errno(e, -ENOMEM, "token");
	while (len < LIMIT_TOKEN_ANSWER) {
		n = http_call_read(c, text + len, LIMIT_TOKEN_ANSWER - len, e);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (n < 0)
		r = (int)n;
	else
		r = auth_token_parse(text, len, ret, ret_expires_s, e);
	explicit_bzero(text, len);
	free(text);
	return r;
}

static int exchange(struct account *a, struct http *h, const struct http_request *rq, struct err *e)
{
	_cleanup_(http_call_freep) struct http_call *c = NULL;
	_cleanup_(follow_clear) struct follow where = {.url = NULL};
	uint64_t asked_ms = now_ms();
	char *token;
	uint32_t expires_s;
	int r;

	r = follow_open(h, rq, &where, &c, e);
	if (r < 0)
		return r;
	if (http_call_status(c) != 200)
		return follow_failure(c, rq->what, where.url, e);
	r = read_token(c, &token, &expires_s, e);
	if (r < 0)
		return err_wrap(e, r, "%s", rq->what);
	account_forget(a);
	a->authorization = token;
	/* 80 %: the rest is for clocks that differ and requests on their way. */
	a->stale_at_ms = asked_ms + (uint64_t)expires_s * 800;
	return 0;
}

/* An identity token is traded for a bearer token by an OAuth2 form (distribution auth/oauth.md). */
static int identity_form(const struct account *a, char **ret)
{
	_cleanup_(auth_wipep) char *form = NULL;
	int r = url_form_add(&form, "grant_type", "refresh_token");

	if (r == 0)
		r = url_form_add(&form, "client_id", "tarn");
	if (r == 0)
		r = url_form_add(&form, "service", a->last.service);
	if (r == 0)
		r = url_form_add(&form, "scope", a->last.scope);
	if (r == 0)
		r = url_form_add(&form, "refresh_token", a->at.secret);
	if (r == 0)
		*ret = take_ptr(form);
	return r;
}

static int fetch_identity(struct account *a, struct http *h, const char *what, struct err *e)
{
	_cleanup_(auth_wipep) char *form = NULL;
	_cleanup_free_ char *url = NULL;
	struct http_request rq = {.what = what, .insecure_tls = a->at.insecure_tls};
	int r = url_token(a->last.realm, !a->at.plain_http, "", "", &url, e);

	if (r < 0)
		return err_wrap(e, r, "%s", what);
	if (!may_send_secret(a, url))
		return err_set(e, -EACCES, "%s: credentials do not go over plain HTTP", what);
	r = identity_form(a, &form);
	if (r < 0)
		return err_errno(e, r, "%s", what);
	rq.url = url;
	rq.form = form;
	return exchange(a, h, &rq, e);
}

static int basic_of(const struct account *a, const char *what, char **ret, struct err *e)
{
	int r = auth_basic(a->at.user, a->at.secret, ret);

	return r < 0 ? err_errno(e, r, "%s: user name or password cannot be sent", what) : 0;
}

static int fetch_token(struct account *a, struct http *h, const char *what, struct err *e)
{
	_cleanup_(auth_wipep) char *basic = NULL;
	_cleanup_free_ char *url = NULL;
	struct http_request rq = {.what = what, .insecure_tls = a->at.insecure_tls};
	int r;

	if (strcmp(a->at.user, AUTH_IDENTITY_USER) == 0)
		return fetch_identity(a, h, what, e);
	r = url_token(a->last.realm, !a->at.plain_http, a->last.service, a->last.scope, &url, e);
	if (r < 0)
		return err_wrap(e, r, "%s", what);
	if (a->at.user[0] && !may_send_secret(a, url))
		return err_set(e, -EACCES, "%s: credentials do not go over plain HTTP", what);
	if (a->at.user[0]) {
		r = basic_of(a, what, &basic, e);
		if (r < 0)
			return r;
	}
	rq.url = url;
	rq.authorization = basic;
	return exchange(a, h, &rq, e);
}

/* --- challenges ------------------------------------------------------------------------------ */

static int use_basic(struct account *a, const char *what, struct err *e)
{
	char *basic;
	int r;

	if (!a->at.user[0] || strcmp(a->at.user, AUTH_IDENTITY_USER) == 0)
		return err_set(e, -EACCES, "%s: the registry wants a user name and password", what);
	r = basic_of(a, what, &basic, e);
	if (r < 0)
		return r;
	account_forget(a);
	a->authorization = basic;
	a->stale_at_ms = UINT64_MAX;
	return 0;
}

static int use_bearer(struct account *a, struct http *h, const char *what, struct err *e)
{
	_cleanup_free_ char *token_what = NULL;

	if (!a->last.scope[0] &&
	    snprintf(a->last.scope, sizeof(a->last.scope), "repository:%s:pull", a->at.repo) < 0)
		return -EINVAL;
	if (asprintf(&token_what, "%s: token", what) < 0) {
		token_what = NULL;
		return err_errno(e, -ENOMEM, "%s", what);
	}
	return fetch_token(a, h, token_what, e);
}

void account_refresh(struct account *a, struct http *h)
{
	if (!a->authorization || now_ms() < a->stale_at_ms)
		return;
	if (a->last.scheme != AUTH_BEARER || use_bearer(a, h, a->at.repo, NULL) < 0)
		account_forget(a);
}

/* The best challenge of all headers; one bad header does not spoil the others. */
static void read_challenges(struct http_call *c, struct auth_challenge *ret)
{
	const char *value;

	*ret = (struct auth_challenge){.scheme = AUTH_OTHER};
	for (size_t i = 0; (value = http_call_header(c, "WWW-Authenticate", i)); i++)
		(void)auth_challenge_best(value, ret);
}

int account_answer(struct account *a, struct http *h, struct http_call **call, const char *what,
		   struct err *e)
{
	read_challenges(*call, &a->last);
	*call = http_call_free(*call);
	if (a->last.scheme == AUTH_BEARER)
		return use_bearer(a, h, what, e);
	if (a->last.scheme == AUTH_BASIC)
		return use_basic(a, what, e);
	return err_set(e, -EACCES, "%s: the registry wants credentials of no kind we know", what);
}
