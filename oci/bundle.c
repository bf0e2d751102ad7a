/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/utf8.h"
#include "oci/bundle_spec.h"

/* Linux __NEW_UTS_LEN. */
#define HOSTNAME_LEN 64

/* JSON is UTF-8: other bytes can not be written down, and must not silently become others. */
static int check_text(const char *text, const char *what, struct err *e)
{
	if (!utf8_ok((const uint8_t *)text, strlen(text)))
		return err_set(e, -EINVAL, "%s '%.200s' is not UTF-8", what, text);
	return 0;
}

static int check_path(const char *path, const char *what, struct err *e)
{
	if (!path || path[0] != '/')
		return err_set(e, -EINVAL, "%s '%.200s' is not an absolute path", what,
			       path ? path : "");
	return check_text(path, what, e);
}

static int check_volume(const struct bundle_volume *v, struct err *e)
{
	int r;

	if ((r = check_path(v->src, "volume source", e)) < 0 ||
	    (r = check_path(v->dst, "volume destination", e)) < 0)
		return r;
	/* runc refuses it since 1.2.8, crun would put it over the image. */
	if (v->dst[strspn(v->dst, "/.")] == '\0')
		return err_set(e, -EINVAL, "volume destination '%.200s' would hide the image",
			       v->dst);
	return 0;
}

static int check_options(const struct bundle_options *opt, struct err *e)
{
	int r;

	if (!opt->image)
		return err_set(e, -EINVAL, "a bundle needs the digest of its image");
	if ((r = check_path(opt->hook_path, "hook", e)) < 0 ||
	    (r = check_path(opt->socket_path, "socket", e)) < 0)
		return r;
	for (size_t i = 0; i < opt->nargs; i++) {
		r = check_text(opt->args[i], "argument", e);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < opt->nvolumes; i++) {
		r = check_volume(&opt->volumes[i], e);
		if (r < 0)
			return r;
	}
	if (!opt->hostname)
		return 0;
	if (!*opt->hostname || strlen(opt->hostname) > HOSTNAME_LEN)
		return err_set(e, -EINVAL, "hostname '%.100s' must have 1 to %d bytes",
			       opt->hostname, HOSTNAME_LEN);
	return check_text(opt->hostname, "hostname", e);
}

/* The image's entrypoint always comes first; what the user gives replaces only cmd. */
static int make_args(const struct run_config *image, const struct bundle_options *opt,
		     struct strv *ret, struct err *e)
{
	const char *const *args = opt->nargs ? opt->args : (const char *const *)image->cmd.v;
	size_t nargs = opt->nargs ? opt->nargs : image->cmd.n;
	char digest[DIGEST_TEXT];
	int r = 0;

	for (size_t i = 0; i < image->entrypoint.n && r == 0; i++)
		r = strv_add(ret, image->entrypoint.v[i]);
	for (size_t i = 0; i < nargs && r == 0; i++)
		r = strv_add(ret, args[i]);
	if (r < 0)
		return err_errno(e, r, "command of the container");
	if (ret->n == 0)
		return err_set(e, -EINVAL,
			       "image %s has no entrypoint and no command: give the command to run",
			       digest_text(opt->image, digest));
	if (!*ret->v[0])
		return err_set(e, -EINVAL, "the command to run in image %s is an empty string",
			       digest_text(opt->image, digest));
	return 0;
}

/* Index of the variable that @text sets, or the number of variables. */
static size_t env_find(const struct strv *env, const char *text)
{
	size_t len = strcspn(text, "=");
	size_t i;

	for (i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], text, len) == 0 && env->v[i][len] == '=')
			break;
	}
	return i;
}

/* Sets a variable where it first stood: which of two entries counts differs by program. */
static int env_set(struct strv *env, const char *text)
{
	size_t i = env_find(env, text);
	char *copy;

	if (i == env->n)
		return strv_add(env, text);
	copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	free(env->v[i]);
	env->v[i] = copy;
	return 0;
}

static int env_default(struct strv *env, const char *text)
{
	return env_find(env, text) < env->n ? 0 : strv_add(env, text);
}

static bool env_valid(const char *text)
{
	return text[0] != '=' && strchr(text, '=');
}

static int env_add_defaults(struct strv *env, const struct bundle_user *user, bool terminal)
{
	char home[sizeof("HOME=") + LIMIT_PATH];
	int r;

	r = env_default(env, BUNDLE_PATH);
	if (r == 0 && terminal)
		r = env_default(env, "TERM=xterm");
	/* Without one the runtime looks it up itself, also a home that JSON can not hold. */
	if (r < 0 || !*user->home || !utf8_ok((const uint8_t *)user->home, strlen(user->home)))
		return r;
	snprintf(home, sizeof(home), "HOME=%s", user->home);
	return env_default(env, home);
}

/* @ret is the caller's to free, also on failure. */
static int make_env(const struct run_config *image, const struct bundle_user *user,
		    const struct bundle_options *opt, struct strv *ret, struct err *e)
{
	int r = 0;

	/* An image's entry without '=' sets nothing, but a runtime would refuse it. */
	for (size_t i = 0; i < image->env.n && r == 0; i++) {
		if (env_valid(image->env.v[i]))
			r = env_set(ret, image->env.v[i]);
	}
	for (size_t i = 0; i < opt->nenv && r == 0; i++) {
		if (!env_valid(opt->env[i]))
			return err_set(e, -EINVAL,
				       "variable '%.200s' is not of the form NAME=VALUE",
				       opt->env[i]);
		if (check_text(opt->env[i], "variable", e) < 0)
			return -EINVAL;
		r = env_set(ret, opt->env[i]);
	}
	if (r == 0)
		r = env_add_defaults(ret, user, opt->terminal);
	return r < 0 ? err_errno(e, r, "environment of the container") : 0;
}

static int make_hook_env(const char *socket, struct strv *ret, struct err *e)
{
	char text[sizeof("TARN_SOCKET=") + LIMIT_PATH];
	int r;

	if (strlen(socket) >= LIMIT_PATH)
		return err_set(e, -ENAMETOOLONG, "socket '%.200s…' is longer than a path can be",
			       socket);
	snprintf(text, sizeof(text), "TARN_SOCKET=%s", socket);
	r = strv_add(ret, BUNDLE_PATH);
	if (r == 0)
		r = strv_add(ret, text);
	return r < 0 ? err_errno(e, r, "environment of the hooks") : 0;
}

static int find_cwd(const char *workdir, const char **ret, struct err *e)
{
	if (!workdir || !*workdir)
		workdir = "/";
	if (workdir[0] != '/')
		return err_set(e, -EINVAL, "the image's working directory '%.200s' is not absolute",
			       workdir);
	*ret = workdir;
	return 0;
}

static void spec_free(struct bundle_spec *s)
{
	strv_free(&s->args);
	strv_free(&s->env);
	strv_free(&s->hook_env);
}

int bundle_write(const struct run_config *image, const struct bundle_user *user,
		 const struct bundle_options *opt, struct buf *out, struct err *e)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_(spec_free) struct bundle_spec s = {
		.opt = opt,
		.user = user,
		.stop_signal = image->stop_signal,
	};
	int r;

	if ((r = check_options(opt, e)) < 0 || (r = find_cwd(image->workdir, &s.cwd, e)) < 0 ||
	    (r = make_args(image, opt, &s.args, e)) < 0 ||
	    (r = make_env(image, user, opt, &s.env, e)) < 0 ||
	    (r = make_hook_env(opt->socket_path, &s.hook_env, e)) < 0)
		return r;
	g = json_gen_new(out, true);
	bundle_spec_put(g, &s);
	if (out->failed)
		return err_errno(e, out->failed, "config.json of the bundle");
	return 0;
}
