/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/list.h"
#include "plugin/cli/show.h"

static void print_images(const struct json *rows)
{
	_cleanup_(table_freep) struct table *t = table_new("NAME|DIGEST|>LAYERS|>SIZE|>HERE");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_at(rows, i);

		table_cell(t, show_str(row, "name"));
		table_cell(t, show_digest(show_str(row, "digest"), text));
		snprintf(text, sizeof(text), "%llu", (unsigned long long)show_int(row, "layers"));
		table_cell(t, text);
		table_size(t, show_int(row, "size"));
		table_size(t, show_int(row, "resident"));
	}
	table_print(t);
}

void print_layers(const struct json *rows, const char *member)
{
	_cleanup_(table_freep) struct table *t = table_new("LAYER|>SIZE|>HERE|STATE|>USED BY");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_at(rows, i);

		if (member)
			row = json_get(row, member);
		if (!row)
			continue;
		table_cell(t, show_digest(show_str(row, "diff_id"), text));
		table_size(t, show_int(row, "size"));
		table_size(t, show_int(row, "resident"));
		table_cell(t, show_str(row, "state"));
		snprintf(text, sizeof(text), "%llu", (unsigned long long)show_int(row, "mounts"));
		table_cell(t, text);
	}
	table_print(t);
}

static int list(const struct cli *cli, const char *image, void (*print)(const struct json *rows))
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;
	int r = request_open(&rq, cli->verb->name, &e);

	if (r == 0 && image)
		json_put_str(rq.g, "image", image);
	if (r == 0)
		r = ask(cli, &rq, &a, &e);
	if (r < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_value(cli, a.rows);
	if (!cli->quiet)
		print(a.rows);
	return 0;
}

static void print_plain_layers(const struct json *rows)
{
	print_layers(rows, NULL);
}

int cmd_images(int argc, char **argv, const struct cli *cli)
{
	return list(cli, NULL, print_images);
}

int cmd_layers(int argc, char **argv, const struct cli *cli)
{
	while (cli_getopt(cli, argc, argv) != -1)
		;
	return list(cli, argv[optind], print_plain_layers);
}
