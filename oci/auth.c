/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/auth.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"

#define EXPIRES_DEFAULT 60
#define EXPIRES_MOST    (24 * 3600)

char *auth_wipe(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
	return NULL;
}

/* --- WWW-Authenticate ------------------------------------------------------------------------ */

/* RFC 9110, 5.6.2 */
static bool is_token(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* RFC 9110, 11.2 */
static bool is_token68(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("-._~+/", c));
}

static const char *skip_ws(const char *p)
{
	return p + strspn(p, " \t");
}

static const char *skip_list(const char *p)
{
	return p + strspn(p, " \t,");
}

static const char *token_end(const char *p)
{
	while (is_token(*p))
		p++;
	return p;
}

/* A value that is wanted goes to @out of @size bytes; @out NULL: read and forget. */
struct sink {
	char *out;
	size_t size;
	size_t len;
};

static bool sink_put(struct sink *s, char c)
{
	if (!s->out)
		return true;
	if (s->len + 1 >= s->size)
		return false;
	s->out[s->len++] = c;
	s->out[s->len] = '\0';
	return true;
}

/* Where the quoted string that opens at @p ends, past its closing quote, or NULL. */
static const char *read_quoted(const char *p, struct sink *s)
{
	for (p++; *p != '"'; p++) {
		if (*p == '\\')
			p++;
		/* The end of the text, and what may not stand in a field value at all. */
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return NULL;
		if (!sink_put(s, *p))
			return NULL;
	}
	return p + 1;
}

static const char *read_value(const char *p, struct sink *s)
{
	const char *start = p;

	if (*p == '"')
		return read_quoted(p, s);
	for (; is_token(*p); p++)
		if (!sink_put(s, *p))
			return NULL;
	return p > start ? p : NULL;
}

static struct sink sink_for(struct auth_challenge *c, const char *name, size_t len)
{
	const struct {
		const char *name;
		char *out;
		size_t size;
	} known[] = {
		{"realm", c->realm, sizeof(c->realm)},
		{"service", c->service, sizeof(c->service)},
		{"scope", c->scope, sizeof(c->scope)},
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strlen(known[i].name) == len && strncasecmp(known[i].name, name, len) == 0 &&
		    !known[i].out[0])
			return (struct sink){.out = known[i].out, .size = known[i].size};
	return (struct sink){.out = NULL};
}

/*
 * One "name = value" at @p. Returns past it; @p itself when what stands here is not a parameter
 * but the next scheme; NULL when it is neither.
 */
static const char *read_param(const char *p, struct auth_challenge *c)
{
	const char *name = p;
	const char *end = token_end(p);
	struct sink s;

	if (end == name)
		return NULL;
	p = skip_ws(end);
	if (*p != '=')
		return name;
	s = sink_for(c, name, (size_t)(end - name));
	p = read_value(skip_ws(p + 1), &s);
	if (!p)
		return NULL;
	/* Only a comma or the end may follow. */
	end = skip_ws(p);
	return *end == ',' || *end == '\0' ? end : NULL;
}

/* Past a token68 that fills its place in the list, or NULL when this is none. */
static const char *read_token68(const char *p)
{
	const char *start = p;

	while (is_token68(*p))
		p++;
	if (p == start)
		return NULL;
	p = skip_ws(p + strspn(p, "="));
	return *p == ',' || *p == '\0' ? p : NULL;
}

static enum auth_scheme scheme_of(const char *name, size_t len)
{
	if (len == 6 && strncasecmp(name, "Bearer", 6) == 0)
		return AUTH_BEARER;
	if (len == 5 && strncasecmp(name, "Basic", 5) == 0)
		return AUTH_BASIC;
	return AUTH_OTHER;
}

int auth_challenge_next(const char **pp, struct auth_challenge *ret)
{
	struct auth_challenge c = {.scheme = AUTH_OTHER};
	const char *p = skip_list(*pp);
	const char *name = p;
	const char *next;

	if (!*p)
		return 0;
	p = token_end(p);
	if (p == name || (*p && *p != ' ' && *p != ','))
		return -EPROTO;
	c.scheme = scheme_of(name, (size_t)(p - name));
	if (*p == ' ') {
		p += strspn(p, " ");
		next = read_token68(p);
		if (next)
			p = next;
	}
	for (p = skip_list(p); *p; p = skip_list(next)) {
		next = read_param(p, &c);
		if (!next)
			return -EPROTO;
		if (next == p)
			break;
	}
	*pp = p;
	*ret = c;
	return 1;
}

int auth_challenge_best(const char *value, struct auth_challenge *best)
{
	struct auth_challenge c;
	int r;

	while ((r = auth_challenge_next(&value, &c)) > 0) {
		if (c.scheme == AUTH_BEARER && !c.realm[0])
			continue;
		if (c.scheme > best->scheme)
			*best = c;
	}
	return r;
}

/* --- credentials ----------------------------------------------------------------------------- */

static bool has_control(const char *s)
{
	for (; *s; s++)
		if (iscntrl((unsigned char)*s))
			return true;
	return false;
}

int auth_basic(const char *user, const char *secret, char **ret)
{
	_cleanup_(auth_wipep) char *pair = NULL;
	char *out;
	size_t len;

	if (strchr(user, ':') || has_control(user) || has_control(secret))
		return -EINVAL;
	if (asprintf(&pair, "%s:%s", user, secret) < 0) {
		pair = NULL;
		return -ENOMEM;
	}
	len = strlen(pair);
	out = malloc(strlen("Basic ") + 4 * ((len + 2) / 3) + 1);
	if (!out)
		return -ENOMEM;
	memcpy(out, "Basic ", 6);
	EVP_EncodeBlock((unsigned char *)out + 6, (const unsigned char *)pair, (int)len);
	*ret = out;
	return 0;
}

/* A token goes into a header as it is: visible ASCII only. */
static bool token_valid(const char *t)
{
	size_t n = 0;

	for (; t[n]; n++)
		if (t[n] <= 0x20 || t[n] >= 0x7f || n >= LIMIT_TOKEN)
			return false;
	return n > 0;
}

static uint32_t expires_of(const struct json *doc)
{
	int64_t s;

	if (!json_get_int(doc, "expires_in", &s))
		return EXPIRES_DEFAULT;
	if (s < 0)
		return 0;
	return s > EXPIRES_MOST ? EXPIRES_MOST : (uint32_t)s;
}

int auth_token_parse(const void *text, size_t len, char **ret, uint32_t *ret_expires_s,
		     struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	const char *token, *access;
	char *out = NULL;
	int r;

	/* The parser quotes what it stumbles over, which may be the token: its words are not kept.
	 */
	r = json_parse(text, len, LIMIT_TOKEN_ANSWER, "token", &doc, NULL);
	if (r < 0)
		return err_set(e, r == -ENOMEM ? r : -EPROTO,
			       "the token server's answer is not JSON we can read");
	token = json_get_str(doc, "token");
	access = json_get_str(doc, "access_token");
	if (!token || !token[0])
		token = access;
	if (!token || !token_valid(token))
		r = err_set(e, -EPROTO, "the token server's answer holds no usable token");
	else if (asprintf(&out, "Bearer %s", token) < 0)
		r = err_errno(e, -ENOMEM, "token");
	/* The strings are the document's own heap memory and are freed with it. */
	if (token)
		explicit_bzero((char *)token, strlen(token));
	if (access)
		explicit_bzero((char *)access, strlen(access));
	if (r < 0)
		return r;
	*ret_expires_s = expires_of(doc);
	*ret = out;
	return 0;
}
