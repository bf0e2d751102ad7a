/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_COMPOSE_H
#define PLUGIN_CLI_COMPOSE_H

struct buf;
struct bundle_want;
struct cli;
struct err;

/*
 * The config.json for @w, from the image's config, which tarnd hands out, and from the image's
 * passwd and group when it wants a user by name. Both come from outside: they are parsed in a child
 * without rights (isolate_call(), law 7), which gives back the finished text.
 */
int compose_config(const struct cli *cli, const struct bundle_want *w, struct buf *out,
		   struct err *e);

#endif
