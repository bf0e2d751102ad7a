/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/url.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <strings.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/registry.h"

static void curlu_freep(CURLU **u)
{
	curl_url_cleanup(*u);
}

static void curl_strp(char **s)
{
	curl_free(*s);
}

static CURLU *parse(const char *url)
{
	CURLU *u = curl_url();

	if (u && curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER)) {
		curl_url_cleanup(u);
		return NULL;
	}
	return u;
}

/* One part as text, for curl_free(), or NULL. */
static char *part(CURLU *u, CURLUPart what)
{
	char *s = NULL;

	if (curl_url_get(u, what, &s, CURLU_DEFAULT_PORT))
		return NULL;
	return s;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart what)
{
	_cleanup_(curl_strp) char *x = part(a, what);
	_cleanup_(curl_strp) char *y = part(b, what);

	return x && y && strcasecmp(x, y) == 0;
}

bool url_same_origin(const char *a, const char *b)
{
	_cleanup_(curlu_freep) CURLU *x = parse(a);
	_cleanup_(curlu_freep) CURLU *y = parse(b);

	return x && y && same_part(x, y, CURLUPART_SCHEME) && same_part(x, y, CURLUPART_HOST) &&
	       same_part(x, y, CURLUPART_PORT);
}

bool url_same_host(const char *a, const char *b)
{
	_cleanup_(curlu_freep) CURLU *x = parse(a);
	_cleanup_(curlu_freep) CURLU *y = parse(b);

	return x && y && same_part(x, y, CURLUPART_HOST);
}

bool url_is_https(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

const char *url_host(const char *url, char out[LIMIT_NAME])
{
	_cleanup_(curlu_freep) CURLU *u = parse(url);
	_cleanup_(curl_strp) char *host = u ? part(u, CURLUPART_HOST) : NULL;

	snprintf(out, LIMIT_NAME, "%s", host && strlen(host) < LIMIT_NAME ? host : "?");
	return out;
}

unsigned url_port(const char *url)
{
	_cleanup_(curlu_freep) CURLU *u = parse(url);
	_cleanup_(curl_strp) char *port = u ? part(u, CURLUPART_PORT) : NULL;

	return port ? (unsigned)strtoul(port, NULL, 10) : 0;
}

/* --- the registry's own URLs ----------------------------------------------------------------- */

/* A host name or address with a port or none; what it may be made of cannot end the host part. */
static bool host_valid(const char *host, bool plain_http)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789.-_:[]";
	char url[LIMIT_NAME + 16];
	CURLU *u;

	if (!host[0] || strnlen(host, LIMIT_NAME) == LIMIT_NAME || host[strspn(host, set)])
		return false;
	snprintf(url, sizeof(url), "%s://%s/", plain_http ? "http" : "https", host);
	u = parse(url);
	curl_url_cleanup(u);
	return u != NULL;
}

/*
 * Components of [a-z0-9._-] that begin and end with a letter or digit: a little wider than the
 * spec's grammar between the ends, and never "." or "..".
 */
static bool repo_valid(const char *repo)
{
	char last = '/';

	if (strnlen(repo, LIMIT_NAME) == LIMIT_NAME)
		return false;
	for (const char *p = repo; *p; last = *p++) {
		bool alnum = islower((unsigned char)*p) || isdigit((unsigned char)*p);

		if (!alnum && (last == '/' || !strchr("._-/", *p)))
			return false;
		if (*p == '/' && strchr("._-", last))
			return false;
	}
	return !strchr("/._-", last);
}

static bool tag_valid(const char *tag)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				  "0123456789_.-";
	size_t len = strspn(tag, set);

	return len > 0 && len <= 128 && !tag[len] && tag[0] != '.' && tag[0] != '-';
}

int url_registry(const struct registry_at *at, const char *kind, const char *reference, char **ret,
		 struct err *e)
{
	struct digest digest;

	if (!host_valid(at->host, at->plain_http))
		return err_set(e, -EINVAL, "'%.200s' is not a registry host (HOST[:PORT])",
			       at->host);
	if (!repo_valid(at->repo))
		return err_set(e, -EINVAL,
			       "'%.200s' is not a repository name (like library/alpine)", at->repo);
	if (!tag_valid(reference) && digest_parse(reference, &digest, NULL) < 0)
		return err_set(e, -EINVAL, "'%.200s' is neither a tag nor a sha256 digest",
			       reference);
	if (asprintf(ret, "%s://%s/v2/%s/%s/%s", at->plain_http ? "http" : "https", at->host,
		     at->repo, kind, reference) < 0) {
		*ret = NULL;
		return err_errno(e, -ENOMEM, "URL of %s", at->repo);
	}
	return 0;
}

/* --- where answers send us ------------------------------------------------------------------- */

/* The whole URL in @u, if it is one we go to. @from is what names the step in errors. */
static int take_url(CURLU *u, bool https, const char *from, char **ret, struct err *e)
{
	_cleanup_(curl_strp) char *scheme = part(u, CURLUPART_SCHEME);
	_cleanup_(curl_strp) char *host = part(u, CURLUPART_HOST);
	_cleanup_(curl_strp) char *whole = NULL;

	if (!scheme || !host || curl_url_get(u, CURLUPART_URL, &whole, 0))
		return err_set(e, -EPROTO, "%s sends us to a URL that cannot be read", from);
	if (strcasecmp(scheme, "https") != 0 && strcasecmp(scheme, "http") != 0)
		return err_set(e, -EPROTO, "%s sends us to %.16s://, neither http nor https", from,
			       scheme);
	if (https && strcasecmp(scheme, "https") != 0)
		return err_set(e, -EPROTO, "%s sends us from https to plain http at %.200s", from,
			       host);
	if (strlen(whole) >= LIMIT_URL)
		return err_set(e, -EPROTO, "%s sends us to a URL of %zu bytes", from,
			       strlen(whole));
	*ret = strdup(whole);
	return *ret ? 0 : err_errno(e, -ENOMEM, "URL from %s", from);
}

int url_follow(const char *from, const char *location, char **ret, struct err *e)
{
	_cleanup_(curlu_freep) CURLU *u = parse(from);
	char host[LIMIT_NAME];

	url_host(from, host);
	if (!u)
		return err_set(e, -EINVAL, "a URL at %s cannot be read", host);
	/* Sites do send blanks in Location; everything else must be a URL already. */
	if (curl_url_set(u, CURLUPART_URL, location,
			 CURLU_DISALLOW_USER | CURLU_URLENCODE | CURLU_ALLOW_SPACE |
				 CURLU_NON_SUPPORT_SCHEME))
		return err_set(e, -EPROTO, "%s sends us to a URL that cannot be used", host);
	/* What a fragment names is inside the answer; it is never sent. */
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	return take_url(u, url_is_https(from), host, ret, e);
}

static int append_query(CURLU *u, const char *name, const char *value, size_t len)
{
	char item[LIMIT_SCOPE + 16];

	if (len == 0)
		return 0;
	if (snprintf(item, sizeof(item), "%s=%.*s", name, (int)len, value) >= (int)sizeof(item))
		return -EPROTO;
	/* With URLENCODE the first '=' stays as it is and all that follows is encoded. */
	return curl_url_set(u, CURLUPART_QUERY, item, CURLU_APPENDQUERY | CURLU_URLENCODE) ? -EPROTO
											   : 0;
}

int url_token(const char *realm, bool https, const char *service, const char *scope, char **ret,
	      struct err *e)
{
	_cleanup_(curlu_freep) CURLU *u = curl_url();
	int r;

	if (!u ||
	    curl_url_set(u, CURLUPART_URL, realm, CURLU_DISALLOW_USER | CURLU_NON_SUPPORT_SCHEME))
		return err_set(e, -EPROTO, "the registry names a token server that cannot be used");
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	r = append_query(u, "service", service, strlen(service));
	while (r == 0 && *scope) {
		size_t len = strcspn(scope, " ");

		r = append_query(u, "scope", scope, len);
		scope += len;
		scope += strspn(scope, " ");
	}
	if (r < 0)
		return err_set(e, r, "the registry's challenge is too long");
	return take_url(u, https, "the registry's challenge", ret, e);
}

/* --- forms ----------------------------------------------------------------------------------- */

int url_form_add(char **form, const char *name, const char *value)
{
	_cleanup_(curl_strp) char *escaped = curl_easy_escape(NULL, value, 0);
	char *longer = NULL;
	int n;

	if (!escaped)
		return -ENOMEM;
	/* Forms carry secrets: neither the escaped copy nor the old text may stay behind. */
	n = asprintf(&longer, "%s%s%s=%s", *form ? *form : "", *form ? "&" : "", name, escaped);
	explicit_bzero(escaped, strlen(escaped));
	if (n < 0)
		return -ENOMEM;
	if (*form)
		explicit_bzero(*form, strlen(*form));
	free(*form);
	*form = longer;
	return 0;
}
