/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_LIST_H
#define PLUGIN_CLI_LIST_H

struct json;

/* A table of the layers among @rows: the rows themselves, or their members called @member. */
void print_layers(const struct json *rows, const char *member);

#endif
