/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"

static int config_open(const void *data, size_t len, const char *what, struct json **ret,
		       struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	int r;

	r = json_parse(data, len, LIMIT_CONFIG, what, &doc, e);
	if (r < 0)
		return r;
	if (!json_is_object(doc))
		return err_set(e, -EINVAL, "%s is not an image config (a JSON object)", what);
	*ret = take_ptr(doc);
	return 0;
}

int config_diff_ids(const void *data, size_t len, const char *what, struct diff_ids *ret,
		    struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	struct diff_ids ids = {.n = 0};
	const struct json *rootfs, *list;
	size_t n;
	int r;

	r = config_open(data, len, what, &doc, e);
	if (r < 0)
		return r;
	rootfs = json_get(doc, "rootfs");
	list = json_get(rootfs, "diff_ids");
	if (!json_is_array(list))
		return err_set(e, -EINVAL,
			       "%s has no rootfs.diff_ids: not the config of a container image",
			       what);
	n = json_count(list);
	if (n > LIMIT_LAYERS)
		return err_set(e, -EINVAL, "%s has %zu diff_ids, more than the %d we take", what, n,
			       LIMIT_LAYERS);
	for (; ids.n < n; ids.n++) {
		const char *text = json_str(json_at(list, ids.n));

		r = digest_parse(text ? text : "", &ids.id[ids.n], e);
		if (r < 0)
			return err_wrap(e, r, "%s: rootfs.diff_ids[%u]", what, ids.n);
	}
	*ret = ids;
	return 0;
}

int strv_add(struct strv *s, const char *text)
{
	_cleanup_free_ char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	/* Room is doubled whenever n is a power of two; one slot more holds the last NULL. */
	if ((s->n & (s->n - 1)) == 0) {
		char **v = reallocarray(s->v, (s->n ? 2 * s->n : 1) + 1, sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
	}
	s->v[s->n++] = take_ptr(copy);
	s->v[s->n] = NULL;
	return 0;
}

void strv_free(struct strv *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	*s = (struct strv){.v = NULL};
}

/* JSON null stands for "not given" in every member of `config`: Docker writes it. */
static bool given(const struct json *v)
{
	return v && !json_is_null(v);
}

static int read_str(const struct json *config, const char *key, const char *what, char **ret,
		    struct err *e)
{
	const struct json *v = json_get(config, key);
	char *copy;

	if (!given(v))
		return 0;
	if (!json_str(v))
		return err_set(e, -EINVAL, "%s: config.%s is not a string", what, key);
	copy = strdup(json_str(v));
	if (!copy)
		return err_errno(e, -ENOMEM, "%s", what);
	*ret = copy;
	return 0;
}

static int read_list(const struct json *config, const char *key, const char *what, struct strv *ret,
		     struct err *e)
{
	const struct json *v = json_get(config, key);

	if (!given(v))
		return 0;
	if (!json_is_array(v))
		return err_set(e, -EINVAL, "%s: config.%s is not a list", what, key);
	if (json_count(v) > LIMIT_STRINGS)
		return err_set(e, -EINVAL, "%s: config.%s has more than %d strings", what, key,
			       LIMIT_STRINGS);
	for (size_t i = 0; i < json_count(v); i++) {
		const char *text = json_str(json_at(v, i));

		if (!text)
			return err_set(e, -EINVAL, "%s: config.%s[%zu] is not a string", what, key,
				       i);
		if (strv_add(ret, text) < 0)
			return err_errno(e, -ENOMEM, "%s", what);
	}
	return 0;
}

static int read_run(const struct json *doc, const char *what, struct run_config *c, struct err *e)
{
	const struct json *config = json_get(doc, "config");
	const char *os = json_get_str(doc, "os");
	int r;

	if (os && *os && strcmp(os, "linux") != 0)
		return err_set(e, -EINVAL, "%s is for %.60s, not for linux", what, os);
	if (given(config) && !json_is_object(config))
		return err_set(e, -EINVAL, "%s: config is not an object", what);
	if ((r = read_list(config, "Env", what, &c->env, e)) < 0 ||
	    (r = read_list(config, "Entrypoint", what, &c->entrypoint, e)) < 0 ||
	    (r = read_list(config, "Cmd", what, &c->cmd, e)) < 0 ||
	    (r = read_str(config, "WorkingDir", what, &c->workdir, e)) < 0 ||
	    (r = read_str(config, "User", what, &c->user, e)) < 0)
		return r;
	return read_str(config, "StopSignal", what, &c->stop_signal, e);
}

int config_parse_run(const void *data, size_t len, const char *what, struct run_config *ret,
		     struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	struct run_config c = {.workdir = NULL};
	int r;

	r = config_open(data, len, what, &doc, e);
	if (r < 0)
		return r;
	r = read_run(doc, what, &c, e);
	if (r < 0) {
		run_config_free(&c);
		return r;
	}
	*ret = c;
	return 0;
}

void run_config_free(struct run_config *c)
{
	strv_free(&c->env);
	strv_free(&c->entrypoint);
	strv_free(&c->cmd);
	free(c->workdir);
	free(c->user);
	free(c->stop_signal);
	*c = (struct run_config){.workdir = NULL};
}
