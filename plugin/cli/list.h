/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_LIST_H
#define PLUGIN_CLI_LIST_H

struct cli;
struct json;

/* The rows as one JSON array on stdout. Returns an exit code. */
int print_rows(const struct cli *cli, const struct json *rows);

/* A table of the layers among @rows: the rows themselves, or their members called @member. */
void print_layers(const struct json *rows, const char *member);

#endif
