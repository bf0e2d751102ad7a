/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_LOGIN_H
#define PLUGIN_CLI_LOGIN_H

struct err;
struct ref;

/* Who we are at a registry. */
struct login {
	char *user;   /* owned; AUTH_IDENTITY_USER (auth.h): the secret is an identity token */
	char *secret; /* owned, wiped */
};

void login_done(struct login *l);

/*
 * What `podman login` or `docker login` left for a repository, in containers-auth.json(5) form:
 * @authfile alone, which must be there; or (NULL) $REGISTRY_AUTH_FILE alone when it is set, else
 * the first of ${XDG_RUNTIME_DIR}/containers/auth.json, ~/.config/containers/auth.json,
 * $DOCKER_CONFIG/config.json, ~/.docker/config.json that knows the repository.
 *
 * In a file the longest key of "credHelpers" and "auths" that is a prefix of host/repo counts, by
 * whole components, and a helper before a password of the same key; "credsStore" is asked when
 * there is none. Helpers are programs of the caller's PATH: see login_helper.h.
 *
 * 1 found, 0 not, negative errno for a file or a helper that cannot be used.
 */
int login_find(const struct ref *ref, const char *authfile, struct login *ret, struct err *e);

#endif
