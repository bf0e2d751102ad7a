/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/list.h"
#include "plugin/cli/show.h"
#include "plugin/settings.h"

/* fill, evict and verify: what moves the content of layers. */

/* The members of "done", and the rows as "layers". */
static int print_with_layers(const struct cli *cli, const struct answer *a)
{
	const struct json *done = answer_done(a);
	_cleanup_json_text_ struct json_text out;

	print_open(&out);
	json_open_map(out.g, NULL);
	for (size_t i = 0; i < json_count(done); i++)
		if (strcmp(json_key_at(done, i), "layers") != 0)
			json_put_value(out.g, json_key_at(done, i), json_value_at(done, i));
	json_put_value(out.g, "layers", a->rows);
	json_close_map(out.g);
	return print_json(cli, &out);
}

/* --- fill --- */

static void print_filled(const struct answer *a, bool waited)
{
	const struct json *done = answer_done(a);
	uint64_t size = show_int(done, "size"), here = show_int(done, "resident");
	char text[SHOW_MAX], rest[SHOW_MAX];

	if (waited || here >= size)
		printf("%s, all of it here\n", show_size(size, text));
	else
		printf("%s of %s here, the rest is coming\n", show_size(here, rest),
		       show_size(size, text));
}

int cmd_fill(int argc, char **argv, const struct cli *cli)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;
	bool wait = false;
	int id, r;

	while ((id = cli_getopt(cli, argc, argv)) != -1)
		wait = wait || id == OPT_WAIT;
	r = request_open(&rq, "fill", &e);
	if (r == 0) {
		json_put_str(rq.g, "what", argv[optind]);
		json_put_bool(rq.g, "wait", wait);
		r = ask(cli, &rq, &a, &e);
	}
	if (r < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_with_layers(cli, &a);
	if (!cli->quiet)
		print_filled(&a, wait);
	return 0;
}

/* --- evict --- */

static void print_evicted(const struct answer *a)
{
	_cleanup_(table_freep) struct table *t = table_new("LAYER|>FREED|>KEPT, IN USE");
	const struct json *done = answer_done(a);
	char text[SHOW_MAX], kept[SHOW_MAX];
	bool others = false;

	for (size_t i = 0; i < json_count(a->rows); i++) {
		const struct json *row = json_at(a->rows, i);

		table_cell(t, show_digest(show_str(row, "diff_id"), text));
		table_size(t, show_int(row, "freed"));
		table_size(t, show_int(row, "kept_in_use"));
		others = others || json_bool(json_get(row, "kept_by_others"), false);
	}
	table_print(t);
	printf("freed %s, kept %s in use\n", show_size(show_int(done, "freed"), text),
	       show_size(show_int(done, "kept_in_use"), kept));
	if (others)
		puts("some is kept for containers that outlived a tarnd: they go before it can");
}

struct evict_wish {
	bool all, wait, has_free, has_cold;
	uint64_t free, cold_for_ms;
};

/* 0, or an exit code. */
static int take_evict_option(const struct cli *cli, int id, struct evict_wish *w)
{
	switch (id) {
	case OPT_ALL:
		w->all = true;
		return 0;
	case OPT_WAIT:
		w->wait = true;
		return 0;
	case OPT_FREE:
		w->has_free = true;
		return parse_size(optarg, &w->free) == 0 && w->free <= INT64_MAX
			       ? 0
			       : cli_usage(cli, "--free %s: sizes are like 512, 30K, 4M, 10G",
					   optarg);
	case OPT_COLD_FOR:
		w->has_cold = true;
		return parse_time_ms(optarg, &w->cold_for_ms) == 0 && w->cold_for_ms <= INT64_MAX
			       ? 0
			       : cli_usage(cli, "--cold-for %s: times are like 90, 30s, 5m, 2h, 1d",
					   optarg);
	default:
		return 0;
	}
}

static int ask_evict(const struct cli *cli, const struct evict_wish *w, const char *what,
		     struct answer *ret, struct err *e)
{
	_cleanup_request_ struct request rq = {0};
	int r = request_open(&rq, "evict", e);

	if (r < 0)
		return r;
	if (what)
		json_put_str(rq.g, "what", what);
	json_put_bool(rq.g, "all", w->all);
	json_put_bool(rq.g, "wait", w->wait);
	if (w->has_free)
		json_put_int(rq.g, "free", (int64_t)w->free);
	if (w->has_cold)
		json_put_int(rq.g, "cold_for_ms", (int64_t)w->cold_for_ms);
	return ask(cli, &rq, ret, e);
}

int cmd_evict(int argc, char **argv, const struct cli *cli)
{
	_cleanup_answer_ struct answer a = {0};
	struct evict_wish w = {0};
	struct err e = ERR_INIT;
	int id, r;

	while ((id = cli_getopt(cli, argc, argv)) != -1) {
		r = take_evict_option(cli, id, &w);
		if (r != 0)
			return r;
	}
	if (w.all == (optind < argc))
		return cli_usage(cli, "give an IMAGE or a LAYER, or --all");
	if (ask_evict(cli, &w, argv[optind], &a, &e) < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_with_layers(cli, &a);
	if (!cli->quiet)
		print_evicted(&a);
	return 0;
}

/* --- verify --- */

static void print_verified(const struct answer *a)
{
	_cleanup_(table_freep) struct table *t = table_new("LAYER|>CHECKED|>BAD, DROPPED|WHOLE");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(a->rows); i++) {
		const struct json *row = json_at(a->rows, i);

		table_cell(t, show_digest(show_str(row, "diff_id"), text));
		table_size(t, show_int(row, "checked"));
		table_size(t, show_int(row, "bad"));
		table_cell(t, show_str(row, "whole"));
	}
	table_print(t);
}

static int verdict(const struct cli *cli, const char *what, const struct json *done)
{
	uint64_t bad = show_int(done, "bad"), layers = show_int(done, "bad_layers");
	struct err e = ERR_INIT;
	char text[SHOW_MAX];

	if (bad == 0 && layers == 0)
		return 0;
	if (layers > 0)
		err_set(&e, -EIO,
			"%s: a layer is not what its manifest says, and is not used any more: rm "
			"the "
			"image and pull it again",
			what);
	else
		err_set(&e, -EIO,
			"%s: %s were bad and have been dropped: they are fetched again when they "
			"are "
			"read",
			what, show_size(bad, text));
	return cli_fail(cli, &e);
}

int cmd_verify(int argc, char **argv, const struct cli *cli)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;
	int r;

	while (cli_getopt(cli, argc, argv) != -1)
		;
	r = request_open(&rq, "verify", &e);
	if (r == 0) {
		json_put_str(rq.g, "what", argv[optind]);
		r = ask(cli, &rq, &a, &e);
	}
	if (r < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		r = print_with_layers(cli, &a);
	else if (!cli->quiet)
		print_verified(&a);
	return r ? r : verdict(cli, argv[optind], answer_done(&a));
}
