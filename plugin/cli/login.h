/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_LOGIN_H
#define PLUGIN_CLI_LOGIN_H

#include <stddef.h>

struct err;
struct ref;

/*
 * The user and password that `podman login` or `docker login` left for a repository, in
 * containers-auth.json(5) form: $REGISTRY_AUTH_FILE alone when it is set, else the first of
 * ${XDG_RUNTIME_DIR}/containers/auth.json, ~/.config/containers/auth.json,
 * $DOCKER_CONFIG/config.json, ~/.docker/config.json that knows the longest prefix of host/repo.
 * Credential helpers are programs; they are not run. 1 found, 0 not, negative errno for a file
 * that cannot be used. @user and @secret get strings the caller frees; wipe the secret.
 */
int login_find(const struct ref *ref, char **ret_user, char **ret_secret, struct err *e);

#endif
