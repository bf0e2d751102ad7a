/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/known.h"
#include "plugin/cli/rundir.h"
#include "plugin/cli/show.h"

static int look(const struct cli *cli, struct answer *ret, struct err *e)
{
	_cleanup_request_ struct request rq = {0};
	int r = request_open(&rq, "gc", e);

	if (r < 0)
		return r;
	json_put_bool(rq.g, "look", true);
	return ask(cli, &rq, ret, e);
}

/* The idle ones are listed by the daemon; which of them are gone is seen here. */
static int collect(const struct cli *cli, struct answer *ret, struct err *e)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer idle = {0};
	int r = look(cli, &idle, e);

	if (r == 0)
		r = request_open(&rq, "gc", e);
	if (r < 0)
		return r;
	json_open_array(rq.g, "containers");
	for (size_t i = 0; i < json_count(idle.rows); i++) {
		const char *id = json_get_str(json_at(idle.rows, i), "name");

		if (id && !container_known(id))
			json_put_str(rq.g, NULL, id);
	}
	json_close_array(rq.g);
	return ask(cli, &rq, ret, e);
}

static void print_collected(const struct answer *a, const struct rundir_gone *dirs)
{
	_cleanup_(table_freep) struct table *t = table_new("REMOVED|NAME|>FREED");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(a->rows); i++) {
		const struct json *row = json_at(a->rows, i);

		table_cell(t, show_str(row, "kind"));
		table_cell(t, show_digest(show_str(row, "name"), text));
		table_size(t, show_int(row, "freed"));
	}
	for (size_t i = 0; i < dirs->n; i++) {
		table_cell(t, "bundle");
		table_cell(t, dirs->v[i]);
		table_size(t, 0);
	}
	table_print(t);
	printf("freed %s\n", show_size(show_int(answer_done(a), "freed"), text));
}

static void put_dirs(struct json_gen *g, const struct rundir_gone *dirs)
{
	for (size_t i = 0; i < dirs->n; i++) {
		json_open_map(g, NULL);
		json_put_str(g, "kind", "bundle");
		json_put_str(g, "name", dirs->v[i]);
		json_put_int(g, "freed", 0);
		json_close_map(g);
	}
}

static int print_collected_json(const struct cli *cli, const struct answer *a,
				const struct rundir_gone *dirs)
{
	_cleanup_json_text_ struct json_text out;

	print_open(&out);
	json_open_map(out.g, NULL);
	json_put_int(out.g, "freed", (int64_t)show_int(answer_done(a), "freed"));
	json_open_array(out.g, "removed");
	for (size_t i = 0; i < json_count(a->rows); i++)
		json_put_value(out.g, NULL, json_at(a->rows, i));
	put_dirs(out.g, dirs);
	json_close_array(out.g);
	json_close_map(out.g);
	return print_json(cli, &out);
}

int cmd_gc(int argc, char **argv, const struct cli *cli)
{
	_cleanup_rundir_gone_ struct rundir_gone dirs = {.n = 0};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;

	if (rundir_collect(cli, &dirs, &e) < 0 || collect(cli, &a, &e) < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_collected_json(cli, &a, &dirs);
	if (!cli->quiet)
		print_collected(&a, &dirs);
	return 0;
}
