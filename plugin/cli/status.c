/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/inits.h"
#include "plugin/cli/list.h"
#include "plugin/cli/show.h"

/* --- pids that tarnd does not have --- */

static int64_t container_pid(const struct json *c, const struct inits *in)
{
	int64_t pid = 0;

	json_get_int(c, "pid", &pid);
	return pid || strcmp(show_str(c, "attach"), "runtime") != 0
		       ? pid
		       : inits_pid(in, show_str(c, "id"));
}

static bool has_containers(const struct json *rows)
{
	for (size_t i = 0; i < json_count(rows); i++)
		if (json_get(json_at(rows, i), "container"))
			return true;
	return false;
}

/* --- JSON --- */

static void put_containers(struct json_gen *g, const struct json *rows, const struct inits *in)
{
	json_open_array(g, "containers");
	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *c = json_get(json_at(rows, i), "container");

		if (!c)
			continue;
		json_open_map(g, NULL);
		for (size_t k = 0; k < json_count(c); k++) {
			const char *key = json_key_at(c, k);

			if (strcmp(key, "pid") == 0)
				json_put_int(g, key, container_pid(c, in));
			else
				json_put_value(g, key, json_value_at(c, k));
		}
		json_close_map(g);
	}
	json_close_array(g);
}

/* The rows that have a member called @member, as an array @key of those members. */
static void put_rows(struct json_gen *g, const char *key, const struct json *rows,
		     const char *member)
{
	json_open_array(g, key);
	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *v = json_get(json_at(rows, i), member);

		if (v)
			json_put_value(g, NULL, v);
	}
	json_close_array(g);
}

static int print_status_json(const struct cli *cli, const struct answer *a, const struct inits *in,
			     bool waiting)
{
	_cleanup_json_text_ struct json_text out;

	print_open(&out);
	json_open_map(out.g, NULL);
	json_put_value(out.g, "daemon", json_get(answer_done(a), "daemon"));
	put_rows(out.g, "layers", a->rows, "layer");
	put_containers(out.g, a->rows, in);
	put_rows(out.g, "lost", a->rows, "lost");
	if (waiting)
		put_rows(out.g, "waiting", a->rows, "waiting");
	json_close_map(out.g);
	return print_json(cli, &out);
}

/* --- tables --- */

static void line_of(const struct json *v, const char *title, const char *const *keys, bool sizes)
{
	char text[SHOW_MAX];

	printf("%-10s", title);
	for (size_t i = 0; keys[i]; i++) {
		uint64_t n = show_int(v, keys[i]);

		if (sizes)
			printf("%s%s %s", i ? ", " : "", keys[i], show_size(n, text));
		else
			printf("%s%s %llu", i ? ", " : "", keys[i], (unsigned long long)n);
	}
	putchar('\n');
}

/* Nothing, as long as there is no limit and no trouble. */
static void print_cache(const struct json *c)
{
	static const char *const sizes[] = {"used", "max", "low", NULL};
	const char *full = json_get_str(c, "full");

	if (show_int(c, "max") > 0)
		line_of(c, "cache", sizes, true);
	if (full)
		printf("%-10s%s, and nothing of the store can be evicted\n", "FULL", full);
}

static void print_daemon(const struct json *d)
{
	static const char *const pids[] = {"guardian_pid", "keeper_pid", "anchor_pid", "engine_pid",
					   NULL};
	static const char *const events[] = {"pre_access", "open_exec",   "hits", "misses",
					     "failed",     "denied_busy", NULL};
	static const char *const bytes[] = {"fetched", "filled", "evicted", NULL};
	static const char *const latency[] = {"p50", "p99", "max", NULL};
	char text[SHOW_MAX];

	printf("%-10s%s, up %s, %llu engine restarts, %zu fetchers\n", "tarnd",
	       show_str(d, "version"), show_time(show_int(d, "uptime_s"), text),
	       (unsigned long long)show_int(d, "engine_restarts"),
	       json_count(json_get(d, "fetcher_pids")));
	line_of(d, "processes", pids, false);
	if (!json_bool(json_get(d, "supervised"), true))
		puts("warning   guardian and keeper are gone: what is mounted is served on,\n"
		     "          nothing else; stop the containers, see that the anchor ends, start "
		     "tarnd");
	line_of(json_get(d, "events"), "events", events, false);
	line_of(json_get(d, "bytes"), "bytes", bytes, true);
	print_cache(json_get(d, "cache"));
	line_of(json_get(d, "fill_latency_us"), "miss (us)", latency, false);
}

static void print_containers(const struct json *rows, const struct inits *in)
{
	_cleanup_(table_freep) struct table *t = table_new("CONTAINER|IMAGE|>PID|ATTACHED BY");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_get(json_at(rows, i), "container");

		if (!row)
			continue;
		table_cell(t, show_str(row, "id"));
		table_cell(t, show_digest(show_str(row, "image"), text));
		snprintf(text, sizeof(text), "%lld", (long long)container_pid(row, in));
		table_cell(t, text);
		table_cell(t, show_str(row, "attach"));
	}
	table_print(t);
}

static void print_waiting(const struct json *rows)
{
	_cleanup_(table_freep) struct table *t =
		table_new(">PID|COMMAND|CONTAINER|LAYER|>OFFSET|>BYTES|>SINCE|SOURCE|WHY");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_get(json_at(rows, i), "waiting");

		if (!row)
			continue;
		snprintf(text, sizeof(text), "%llu", (unsigned long long)show_int(row, "pid"));
		table_cell(t, text);
		table_cell(t, show_str(row, "comm"));
		table_cell(t, show_str(row, "container"));
		table_cell(t, show_digest(show_str(row, "layer"), text));
		snprintf(text, sizeof(text), "%llu", (unsigned long long)show_int(row, "offset"));
		table_cell(t, text);
		table_size(t, show_int(row, "count"));
		snprintf(text, sizeof(text), "%llums",
			 (unsigned long long)show_int(row, "since_ms"));
		table_cell(t, text);
		table_cell(t, show_str(row, "source"));
		table_cell(t, show_str(row, "why"));
	}
	table_print(t);
}

static void print_lost(const struct json *rows)
{
	char text[SHOW_MAX], when[32];
	unsigned n = 0;

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *row = json_get(json_at(rows, i), "lost");
		time_t found = (time_t)show_int(row, "found");
		struct tm tm;

		if (!row || !localtime_r(&found, &tm) ||
		    !strftime(when, sizeof(when), "%F %T", &tm))
			continue;
		printf("%-10s%s, found %s\n", "LOST", show_digest(show_str(row, "layer"), text),
		       when);
		n++;
	}
	if (n)
		puts("          was in use when every process of tarnd was killed at once. What "
		     "its\n"
		     "          readers got until then may have been zeros, and programs may have\n"
		     "          such pages mapped still: restart the containers that ran, and\n"
		     "          tarn status --acknowledge. Until they end it is not evicted");
}

/* An empty line before a table that will have rows. */
static void part(const struct json *rows, const char *member)
{
	for (size_t i = 0; i < json_count(rows); i++) {
		if (json_get(json_at(rows, i), member)) {
			putchar('\n');
			return;
		}
	}
}

/* What comes from a registry is in it. */
static void print_warnings(const struct json *rows)
{
	char digest[SHOW_MAX];

	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *l = json_get(json_at(rows, i), "layer");
		const char *text = l ? json_get_str(l, "warning") : NULL;
		_cleanup_buf_ struct buf b;

		buf_init(&b, 16u << 10);
		if (!text)
			continue;
		show_clean(&b, text);
		if (buf_cstr(&b))
			printf("%-10slayer %s: %s\n", "warning",
			       show_digest(show_str(l, "diff_id"), digest), (char *)b.data);
	}
}

static void print_status(const struct answer *a, const struct inits *in)
{
	print_daemon(json_get(answer_done(a), "daemon"));
	print_lost(a->rows);
	print_warnings(a->rows);
	part(a->rows, "layer");
	print_layers(a->rows, "layer");
	part(a->rows, "container");
	print_containers(a->rows, in);
	part(a->rows, "waiting");
	print_waiting(a->rows);
}

int cmd_status(int argc, char **argv, const struct cli *cli)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	_cleanup_inits_ struct inits in = {.n = 0};
	struct err e = ERR_INIT;
	bool waiting = false, acknowledge = false;
	int id, r;

	while ((id = cli_getopt(cli, argc, argv)) != -1) {
		waiting = waiting || id == OPT_WAITING;
		acknowledge = acknowledge || id == OPT_ACKNOWLEDGE;
	}
	r = request_open(&rq, "status", &e);
	if (r == 0) {
		json_put_bool(rq.g, "waiting", waiting);
		json_put_bool(rq.g, "acknowledge", acknowledge);
		r = ask(cli, &rq, &a, &e);
	}
	if (r < 0)
		return cli_fail(cli, &e);
	if (has_containers(a.rows))
		inits_find(&in);
	if (cli->json)
		return print_status_json(cli, &a, &in, waiting);
	if (!cli->quiet)
		print_status(&a, &in);
	return 0;
}
