/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/show.h"
#include "plugin/cli/tool.h"

/*
 * Where runtimes and engines keep what they know of a container, stopped ones too; %s is its id.
 * A writable layer whose id is in none of them belongs to nobody any more.
 */
static const char *const places[] = {
	"/run/runc/%s",
	"/run/crun/%s",
	"/run/docker/runtime-runc/moby/%s",
	"/run/containerd/runc/default/%s",
	"/run/containerd/runc/k8s.io/%s",
	"/run/containerd/io.containerd.runtime.v2.task/default/%s",
	"/run/containerd/io.containerd.runtime.v2.task/moby/%s",
	"/run/containerd/io.containerd.runtime.v2.task/k8s.io/%s",
	"/var/lib/docker/containers/%s",
	"/var/lib/containers/storage/overlay-containers/%s",
	"/var/lib/containers/storage/vfs-containers/%s",
	"/run/containers/storage/overlay-containers/%s",
};

/* podman's storage may be elsewhere: it is asked, and only a clear no is one. */
static bool podman_has(const char *id)
{
	const char *const argv[] = {"podman", "container", "exists", id, NULL};
	int r = tool_run(argv, NULL);

	return r != 1 && r != -ENOENT;
}

static bool exists(const char *id)
{
	char path[LIMIT_PATH];

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		const char *at = strstr(places[i], "%s");

		snprintf(path, sizeof(path), "%.*s%s", (int)(at - places[i]), places[i], id);
		if (access(path, F_OK) == 0 || errno != ENOENT)
			return true;
	}
	return podman_has(id);
}

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

		if (id && !exists(id))
			json_put_str(rq.g, NULL, id);
	}
	json_close_array(rq.g);
	return ask(cli, &rq, ret, e);
}

static void print_collected(const struct answer *a)
{
	_cleanup_(table_freep) struct table *t = table_new("REMOVED|NAME|>FREED");
	char text[SHOW_MAX];

	for (size_t i = 0; i < json_count(a->rows); i++) {
		const struct json *row = json_at(a->rows, i);

		table_cell(t, show_str(row, "kind"));
		table_cell(t, show_digest(show_str(row, "name"), text));
		table_size(t, show_int(row, "freed"));
	}
	table_print(t);
	printf("freed %s\n", show_size(show_int(answer_done(a), "freed"), text));
}

static int print_collected_json(const struct cli *cli, const struct answer *a)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf out = {0};

	buf_init(&out, 2 * (size_t)LIMIT_CTL_ROWS);
	g = json_gen_new(&out, true);
	if (!g)
		return print_json(cli, &out);
	json_open_map(g, NULL);
	json_put_int(g, "freed", (int64_t)show_int(answer_done(a), "freed"));
	json_put_value(g, "removed", a->rows);
	json_close_map(g);
	return print_json(cli, &out);
}

int cmd_gc(int argc, char **argv, const struct cli *cli)
{
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;

	if (collect(cli, &a, &e) < 0)
		return cli_fail(cli, &e);
	if (cli->json)
		return print_collected_json(cli, &a);
	if (!cli->quiet)
		print_collected(&a);
	return 0;
}
