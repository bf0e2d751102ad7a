/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_AUTH_H
#define OCI_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/limits.h"

struct err;

/*
 * The words of HTTP authentication as registries use them: challenges, Basic credentials, and
 * the token server's answer. Pure functions; who sends what to whom is account.h's.
 */

/* Docker's user name for "the secret is an identity token", in credential helpers' answers. */
#define AUTH_IDENTITY_USER "<token>"

enum auth_scheme { AUTH_OTHER, AUTH_BASIC, AUTH_BEARER };

/* One challenge. Plain data; parameters that were not given are "". */
struct auth_challenge {
	enum auth_scheme scheme;
	char realm[LIMIT_REALM];
	char service[LIMIT_NAME];
	char scope[LIMIT_SCOPE];
};

/*
 * Takes the next challenge off the front of the WWW-Authenticate value at *@p: a list of
 *
 *	scheme [ 1*SP ( token68 / param *( "," param ) ) ]     param = token BWS "=" BWS value
 *
 * with empty members allowed and values as tokens or quoted strings (RFC 9110, 5.6.1, 11.2 and
 * 11.6.1). Names of schemes and parameters are matched without case; parameters other than the
 * three are read and ignored; of a parameter given twice the first counts.
 *
 * Returns 1 with *@ret and *@p moved on, 0 at the end, -EPROTO when the text does not follow the
 * grammar or a value we use is too long or holds control characters.
 */
int auth_challenge_next(const char **p, struct auth_challenge *ret);

/*
 * Keeps in *@best the best challenge of one header value: Bearer with a realm, else Basic. Call
 * once for each header, @best zeroed before the first. -EPROTO as above; what came before the bad
 * place has been taken.
 */
int auth_challenge_best(const char *value, struct auth_challenge *best);

/*
 * "Basic …" for a user and password (RFC 7617), for auth_wipe(). -EINVAL for a colon in the user
 * name or control characters, which the scheme cannot carry; -ENOMEM.
 */
int auth_basic(const char *user, const char *secret, char **ret);

/*
 * Reads a token server's JSON: `token` or `access_token`, `expires_in` in seconds (60 when
 * absent, as the specification says; at most a day is believed). Returns "Bearer …" for
 * auth_wipe(). @text is wiped of nothing: it is the caller's. -EPROTO, and never quotes the
 * answer.
 */
int auth_token_parse(const void *text, size_t len, char **ret, uint32_t *ret_expires_s,
		     struct err *e);

/* Overwrites and frees a string; NULL-safe; returns NULL. */
char *auth_wipe(char *s);

static inline void auth_wipep(char **s)
{
	auth_wipe(*s);
}

#endif
