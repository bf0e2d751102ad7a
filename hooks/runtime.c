/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "hooks/args.h"
#include "hooks/attach.h"
#include "hooks/edit.h"
#include "hooks/find.h"
#include "hooks/private.h"
#include "hooks/spec.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "oci/bundle.h"

/*
 * tarn-runtime: stands where an engine expects runc or crun. For a container with our annotation it
 * mounts the image's file system in a mount namespace of its own before it becomes the real
 * runtime, which finds an ordinary root directory. For everything else it becomes it at once.
 */

#define SOCKET_DEFAULT "/run/tarn/tarnd.sock"

static const char *find_socket(const struct args *a)
{
	const char *env = getenv("TARN_SOCKET");

	if (a->socket)
		return a->socket;
	return env && *env ? env : SOCKET_DEFAULT;
}

/*
 * The new root.path, and where it was before. A bundle that was here before has both already. The
 * file is replaced as a whole: what reads it meanwhile sees the old one or the new.
 */
static int rewrite(const struct spec *s, const char *root, struct err *e)
{
	struct edit_annotation set[] = {
		{ANNOTATION_ATTACHED, "runtime"},
		{ANNOTATION_ROOTFS, s->root},
	};
	_cleanup_buf_ struct buf out = {0};
	int r;

	if (s->prepared && strcmp(s->root, root) == 0)
		return 0;
	buf_init(&out, 2 * (size_t)LIMIT_BUNDLE_CONFIG);
	r = edit_config(s->doc, root, set, ARRAY_LEN(set) - s->prepared, &out, e);
	return r < 0 ? r : fd_publish(s->dir, "config.json", out.data, out.len, s->mode, e);
}

static int prepare(const struct args *a, struct spec *s, struct err *e)
{
	const struct attach_request rq = {
		.socket = find_socket(a),
		.id = a->id,
		.image = s->image,
		.rw = s->rw,
		.kind = ATTACH_RUNTIME,
		.mount_label = s->label,
	};
	const char *rundir = private_rundir();
	_cleanup_fd_ int image = -1;
	char root[LIMIT_PATH];
	int r;

	r = spec_check(s, e);
	if (r == 0)
		r = attach_open(&rq, &image, e);
	if (r == 0)
		r = attach_check_root(image, e);
	if (r == 0)
		r = private_mount(rundir, image, e);
	return r < 0 ? r : rewrite(s, private_path(rundir, root), e);
}

/* What is wrong with bundle or command line is the real runtime's to say. */
static int start(const struct args *a, struct err *e)
{
	_cleanup_spec_ struct spec s = SPEC_INIT;
	int r = spec_open(a->bundle, &s, e);

	if (r == -ENOENT)
		return 0;
	if (r < 0 || !s.image || !a->id)
		return r;
	r = attach_id_check(a->id, e);
	if (r < 0)
		return r;
	if (a->config)
		return err_set(e, -ENOTSUP,
			       "--config %.200s: the root file system can only be prepared for a "
			       "bundle's config.json",
			       a->config);
	return prepare(a, &s, e);
}

/* --- telling what went wrong --- */

/* Engines read the runtime's log file, and show what it says there. */
static void put_log_line(const struct args *a, const char *text, struct buf *out)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	time_t now = time(NULL);
	char when[32] = "";
	struct tm tm;

	if (gmtime_r(&now, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	if (!a->log_json) {
		buf_printf(out, "time=\"%s\" level=error msg=\"%s\"\n", when, text);
		return;
	}
	g = json_gen_new(out, false);
	json_open_map(g, NULL);
	json_put_str(g, "msg", text);
	json_put_str(g, "level", "error");
	json_put_str(g, "time", when);
	json_close_map(g);
	buf_put_str(out, "\n");
}

/* For `tarn -v run`: as tarn prints it for failures of its own. */
static void print_chain(const struct err *e)
{
	const char *name = e->links.cause ? err_name(e->links.cause) : NULL;
	char link[ERR_TEXT_MAX];
	size_t n = err_nlinks(e);

	for (size_t i = 0; i < n; i++) {
		fprintf(stderr, "  %s", err_link(e, i, link));
		if (i == n - 1 && name)
			fprintf(stderr, " (%s)", name);
		fputc('\n', stderr);
	}
}

static int exit_code(const struct args *a, const struct err *e)
{
	if (e->code == -EOPNOTSUPP)
		return 3;
	/* args_parse() has nothing to give then. */
	return e->code == -EINVAL && !a->argv ? 2 : 1;
}

static int fail(const struct args *a, const struct err *e)
{
	char text[ERR_TEXT_MAX + sizeof("tarn-runtime: ")];
	_cleanup_buf_ struct buf line = {0};
	_cleanup_fd_ int log = -1;

	snprintf(text, sizeof(text), "tarn-runtime: %s", e->text[0] ? e->text : err_words(e->code));
	fprintf(stderr, "%s\n", text);
	if (getenv("TARN_VERBOSE"))
		print_chain(e);
	if (!a->log)
		return exit_code(a, e);
	buf_init(&line, sizeof(text) * 8);
	put_log_line(a, text, &line);
	log = open(a->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (log >= 0 && line.failed == 0)
		(void)fd_write_full(log, line.data, line.len);
	return exit_code(a, e);
}

/* The real runtime's follows: it is its command line that engines use. */
static void usage(void)
{
	puts("usage: tarn-runtime [OPTION...] [the runtime's own options] COMMAND ...\n"
	     "Front of runc or crun that mounts tarn images; see tarn-runtime(8).\n\n"
	     "  --tarn-runtime RUNTIME  the real runtime (TARN_RUNTIME; runc or crun on PATH)\n"
	     "  --tarn-socket PATH      tarnd's socket (TARN_SOCKET; " SOCKET_DEFAULT ")\n"
	     "  --tarn-version          print the version\n\n"
	     "All else is the real runtime's:\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *runtime = NULL;
	struct err e = ERR_INIT;
	_cleanup_args_ struct args a = {0};
	int r;

	if (argc == 2 && strcmp(argv[1], "--tarn-version") == 0) {
		puts("tarn-runtime " TARN_VERSION);
		return 0;
	}
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		usage();
	r = args_parse(argc, argv, &a, &e);
	if (r == 0)
		r = find_runtime(a.runtime ? a.runtime : getenv("TARN_RUNTIME"), argv[0], &runtime,
				 &e);
	if (r == 0 && args_starts(&a))
		r = start(&a, &e);
	if (r < 0)
		return fail(&a, &e);
	a.argv[0] = runtime;
	execv(runtime, a.argv);
	err_errno(&e, -errno, "starting %.300s", runtime);
	return fail(&a, &e);
}
