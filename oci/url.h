/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_URL_H
#define OCI_URL_H

#include <stdbool.h>

#include "oci/base/limits.h"

struct err;
struct registry_at;

/*
 * URLs of the distribution API. Parsing is libcurl's own, so that what is checked here is what
 * will be connected to.
 */

/*
 * "SCHEME://HOST/v2/REPO/KIND/REFERENCE"; @kind is "manifests" or "blobs". Host, repository and
 * reference are checked against their grammars first (distribution-spec, section on pulling):
 * none of them can change the meaning of the rest. @ret is for free(). -EINVAL names the part.
 */
int url_registry(const struct registry_at *at, const char *kind, const char *reference, char **ret,
		 struct err *e);

/*
 * Where @location, absolute or relative, leads from @from. -EPROTO for anything but HTTP(S), for
 * a step from https to http, for user names in the URL, and for more than LIMIT_URL bytes. @ret
 * is for free(). Texts name hosts only: the rest of such a URL is often a signature.
 */
int url_follow(const char *from, const char *location, char **ret, struct err *e);

/*
 * A token request (distribution auth/token.md): @realm with service and scope added, each word of
 * @scope as a parameter of its own; either may be "". -EPROTO as for url_follow(), with @https a
 * plain HTTP realm too. @ret is for free().
 */
int url_token(const char *realm, bool https, const char *service, const char *scope, char **ret,
	      struct err *e);

/* Appends "name=value" to a form or query that is in @ret (free() it), percent-encoded. */
int url_form_add(char **form, const char *name, const char *value);

bool url_same_origin(const char *a, const char *b); /* scheme, host and port */
bool url_same_host(const char *a, const char *b);   /* host alone */
bool url_is_https(const char *url);

/* The host without port, brackets kept, for messages and name look-up; "?" when there is none. */
const char *url_host(const char *url, char out[LIMIT_NAME]);
/* The port, the scheme's own when none is written; 0 when the URL cannot be read. */
unsigned url_port(const char *url);

#endif
