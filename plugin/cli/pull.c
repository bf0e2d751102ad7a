/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/manifest.h"
#include "oci/ref.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/login.h"
#include "plugin/cli/show.h"

struct wish {
	const char *src;      /* borrowed */
	const char *keep;     /* borrowed */
	const char *name;     /* borrowed; NULL: made from src */
	const char *platform; /* borrowed; NULL: this machine's */
	const char *authfile; /* borrowed; NULL: where login.h says */
	bool tls_verify;
};

static bool keep_valid(const char *text)
{
	return strcmp(text, "auto") == 0 || strcmp(text, "all") == 0 || strcmp(text, "none") == 0;
}

/* 0, or an exit code. */
static int take_option(const struct cli *cli, int id, struct wish *w)
{
	struct platform platform;
	struct err e = ERR_INIT;

	switch (id) {
	case OPT_KEEP:
		w->keep = optarg;
		return keep_valid(optarg) ? 0 : cli_usage(cli, "--keep is auto, all or none");
	case OPT_NAME:
		w->name = optarg;
		return ref_name_valid(optarg) ? 0 : cli_usage(cli, "'%.60s' is no name", optarg);
	case OPT_PLATFORM:
		w->platform = optarg;
		return platform_parse(optarg, &platform, &e) == 0 ? 0
								  : cli_usage(cli, "%s", e.text);
	case OPT_AUTHFILE:
		w->authfile = optarg;
		return 0;
	case OPT_TLS_VERIFY:
		w->tls_verify = strcmp(optarg, "false") != 0;
		return !w->tls_verify || strcmp(optarg, "true") == 0
			       ? 0
			       : cli_usage(cli, "--tls-verify is true or false");
	default:
		return 0;
	}
}

/* tarnd has a working directory of its own: what it gets is absolute. */
static int absolute(const struct ref *ref, char out[LIMIT_PATH + LIMIT_NAME + 8], struct err *e)
{
	_cleanup_free_ char *dir = realpath(ref->dir, NULL);
	int n;

	if (!dir)
		return err_errno(e, -errno, "image layout %s", ref->dir);
	n = snprintf(out, LIMIT_PATH + LIMIT_NAME + 8, "oci:%s%s%s", dir, ref->tag[0] ? ":" : "",
		     ref->tag);
	return n < LIMIT_PATH + LIMIT_NAME + 8 ? 0 : err_errno(e, -ENAMETOOLONG, "%s", ref->dir);
}

static int put_login(const struct wish *w, const struct ref *ref, struct json_gen *g, struct err *e)
{
	_cleanup_(login_done) struct login login = {.user = NULL};
	int r = login_find(ref, w->authfile, &login, e);

	if (r > 0) {
		json_put_str(g, "user", login.user);
		json_put_str(g, "secret", login.secret);
	}
	return r < 0 ? r : 0;
}

static int send(const struct cli *cli, const struct wish *w, const struct ref *ref,
		struct answer *ret, struct err *e)
{
	char src[LIMIT_PATH + LIMIT_NAME + 8], name[LIMIT_REF];
	_cleanup_request_ struct request rq = {0};
	int r = request_open(&rq, "pull", e);

	if (r == 0 && ref->kind == REF_LAYOUT)
		r = absolute(ref, src, e);
	if (r < 0)
		return r;
	/* The name is made from what the user wrote, not from where its links lead. */
	ref_default_name(ref, name);
	json_put_str(rq.g, "source", ref->kind == REF_LAYOUT ? src : w->src);
	json_put_str(rq.g, "keep", w->keep);
	json_put_str(rq.g, "name", w->name ? w->name : name);
	if (w->platform)
		json_put_str(rq.g, "platform", w->platform);
	json_put_bool(rq.g, "tls_verify", w->tls_verify);
	r = put_login(w, ref, rq.g, e);
	if (r == 0)
		r = ask(cli, &rq, ret, e);
	if (rq.text.data)
		explicit_bzero(rq.text.data, rq.text.len);
	return r;
}

static int print_pulled(const struct cli *cli, const struct json *done)
{
	char size[SHOW_MAX], here[SHOW_MAX];

	if (cli->json)
		return print_value(cli, done);
	if (!cli->quiet)
		printf("%s %s: %llu layer%s, %s, %s of it here\n", show_str(done, "name"),
		       show_str(done, "digest"), (unsigned long long)show_int(done, "layers"),
		       show_int(done, "layers") == 1 ? "" : "s",
		       show_size(show_int(done, "size"), size),
		       show_size(show_int(done, "resident"), here));
	return 0;
}

int cmd_pull(int argc, char **argv, const struct cli *cli)
{
	struct wish w = {.keep = "auto", .tls_verify = true};
	_cleanup_answer_ struct answer a = {0};
	struct err e = ERR_INIT;
	struct ref ref;
	int id, r;

	while ((id = cli_getopt(cli, argc, argv)) != -1) {
		r = take_option(cli, id, &w);
		if (r != 0)
			return r;
	}
	w.src = argv[optind];
	if (ref_parse(w.src, &ref, &e) < 0)
		return cli_usage(cli, "%s", e.text);
	if (send(cli, &w, &ref, &a, &e) < 0)
		return cli_fail(cli, &e);
	return print_pulled(cli, answer_done(&a));
}
