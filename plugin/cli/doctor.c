/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/json_text.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/show.h"

static const char *const words[] = {
	[HEALTH_OK] = "ok", [HEALTH_WARN] = "warn", [HEALTH_MISSING] = "missing"};

void report_add(struct report *rp, const char *name, enum health health, const char *todo,
		const char *fmt, ...)
{
	struct check *c = &rp->v[rp->n];
	va_list ap;

	if (rp->n == CHECKS_MAX)
		return;
	rp->n++;
	c->name = name;
	c->health = health;
	c->todo = todo;
	va_start(ap, fmt);
	vsnprintf(c->detail, sizeof(c->detail), fmt, ap);
	va_end(ap);
}

static const struct check *first_missing(const struct report *rp)
{
	for (size_t i = 0; i < rp->n; i++)
		if (rp->v[i].health == HEALTH_MISSING)
			return &rp->v[i];
	return NULL;
}

static int print_report_json(const struct cli *cli, const struct report *rp)
{
	_cleanup_json_text_ struct json_text out;

	print_open(&out);
	json_open_map(out.g, NULL);
	json_put_bool(out.g, "ok", !first_missing(rp));
	json_open_array(out.g, "checks");
	for (size_t i = 0; i < rp->n; i++) {
		json_open_map(out.g, NULL);
		json_put_str(out.g, "check", rp->v[i].name);
		json_put_str(out.g, "state", words[rp->v[i].health]);
		json_put_str(out.g, "detail", rp->v[i].detail);
		json_put_str(out.g, "todo", rp->v[i].todo);
		json_close_map(out.g);
	}
	json_close_array(out.g);
	json_close_map(out.g);
	return print_json(cli, &out);
}

static void print_report(const struct report *rp)
{
	_cleanup_(table_freep) struct table *t = table_new("STATE|CHECK|DETAIL");
	char text[ERR_TEXT_MAX + 256];

	for (size_t i = 0; i < rp->n; i++) {
		const struct check *c = &rp->v[i];

		snprintf(text, sizeof(text), "%s%s%s", c->detail, c->todo ? " → " : "",
			 c->todo ? c->todo : "");
		table_cell(t, words[c->health]);
		table_cell(t, c->name);
		table_cell(t, text);
	}
	table_print(t);
}

static int verdict(const struct cli *cli, const struct report *rp)
{
	const struct check *c = first_missing(rp);
	struct err e = ERR_INIT;

	if (!c)
		return 0;
	err_set(&e, -EOPNOTSUPP, "doctor: %s: %s", c->name, c->detail);
	return cli_fail(cli, &e);
}

int cmd_doctor(int argc, char **argv, const struct cli *cli)
{
	struct report rp = {.n = 0};
	struct err e = ERR_INIT;
	struct lab lab;
	int r;

	if (geteuid() != 0) {
		err_set(&e, -EPERM, "doctor: what this machine can do is tried as root: use sudo");
		return cli_fail(cli, &e);
	}
	doctor_host(&rp);
	if (lab_open(&lab, cli->store, &rp)) {
		doctor_events(&lab, &rp);
		doctor_mounts(&lab, &rp);
	}
	lab_close(&lab);
	doctor_runtimes(&rp);
	doctor_daemon(&rp, cli);
	r = 0;
	if (cli->json)
		r = print_report_json(cli, &rp);
	else if (!cli->quiet)
		print_report(&rp);
	fflush(stdout);
	return r ? r : verdict(cli, &rp);
}
