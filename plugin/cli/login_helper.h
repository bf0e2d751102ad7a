/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_LOGIN_HELPER_H
#define PLUGIN_CLI_LOGIN_HELPER_H

struct err;
struct login;

/*
 * Asks the program docker-credential-@name for who we are at @server: "get" is its argument, the
 * server is on its stdin, its answer {"ServerURL", "Username", "Secret"} on stdout (the protocol of
 * docker/docker-credential-helpers). 1 found, 0 when it knows none, negative errno with what it
 * said when it fails.
 */
int login_helper_ask(const char *name, const char *server, struct login *ret, struct err *e);

#endif
