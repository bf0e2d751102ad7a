/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/args.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

enum what {
	OTHER, /* not for us, but it has a value */
	BUNDLE,
	CONFIG,
	LOG,
	LOG_FORMAT,
	OWN_RUNTIME,
	OWN_SOCKET,
};

/* Options that have a value: of runc 1.0 to 1.5 and crun 1.0 to 1.29. */
struct option {
	const char *name;
	char letter;
	enum what what;
};

static const struct option globals[] = {
	{"log", 0, LOG},
	{"log-format", 0, LOG_FORMAT},
	{"root", 0, OTHER},
	{"criu", 0, OTHER},
	{"rootless", 0, OTHER},
	{"cgroup-manager", 0, OTHER},
	{"tarn-runtime", 0, OWN_RUNTIME},
	{"tarn-socket", 0, OWN_SOCKET},
	{NULL, 0, OTHER},
};

static const struct option start_options[] = {
	{"bundle", 'b', BUNDLE}, {"config", 'f', CONFIG},    {"console-socket", 0, OTHER},
	{"pid-file", 0, OTHER},  {"pidfd-socket", 0, OTHER}, {"preserve-fds", 0, OTHER},
	{NULL, 0, OTHER},
};

/* Walks over argv. */
struct walk {
	char **argv;
	int argc, at;
};

/* The option that @text is, and in *ret_value what follows '=' or a letter; NULL when unknown. */
static const struct option *find(const struct option *list, const char *text,
				 const char **ret_value)
{
	const char *name = text + (text[1] == '-' ? 2 : 1);
	size_t len = strcspn(name, "=");

	*ret_value = NULL;
	for (; list->name; list++) {
		if (strlen(list->name) == len && strncmp(list->name, name, len) == 0) {
			*ret_value = name[len] == '=' ? name + len + 1 : NULL;
			return list;
		}
		/* crun: -bDIR. runc has no other options that begin with these letters. */
		if (list->letter && text[1] == list->letter) {
			*ret_value = !text[2] ? NULL : text + 2 + (text[2] == '=');
			return list;
		}
	}
	return NULL;
}

static void keep(struct args *a, char *text)
{
	a->argv[a->argc++] = text;
}

static void take(struct args *a, enum what what, const char *value)
{
	switch (what) {
	case BUNDLE:
		a->bundle = value;
		break;
	case CONFIG:
		a->config = value;
		break;
	case LOG:
		a->log = value;
		break;
	case LOG_FORMAT:
		a->log_json = strcmp(value, "json") == 0;
		break;
	case OWN_RUNTIME:
		a->runtime = value;
		break;
	case OWN_SOCKET:
		a->socket = value;
		break;
	case OTHER:
		break;
	}
}

static int take_option(struct args *a, struct walk *w, const struct option *list, struct err *e)
{
	char *text = w->argv[w->at++];
	const char *value;
	const struct option *o = find(list, text, &value);
	bool own = o && (o->what == OWN_RUNTIME || o->what == OWN_SOCKET);
	bool next = o && !value && w->at < w->argc;

	if (own && !value && !next)
		return err_set(e, -EINVAL, "option %s needs a value", text);
	if (!own)
		keep(a, text);
	if (next) {
		value = w->argv[w->at++];
		if (!own)
			keep(a, w->argv[w->at - 1]);
	}
	if (value)
		take(a, o->what, value);
	return 0;
}

/* Options up to the first argument, which is left. "--" ends them, too. */
static int take_options(struct args *a, struct walk *w, const struct option *list, struct err *e)
{
	while (w->at < w->argc && w->argv[w->at][0] == '-' && w->argv[w->at][1]) {
		int r;

		if (strcmp(w->argv[w->at], "--") == 0) {
			keep(a, w->argv[w->at++]);
			return 0;
		}
		r = take_option(a, w, list, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int take_all(struct args *a, struct walk *w, struct err *e)
{
	int r;

	keep(a, w->argv[w->at++]);
	r = take_options(a, w, globals, e);
	if (r < 0 || w->at == w->argc)
		return r;
	a->command = w->argv[w->at];
	keep(a, w->argv[w->at++]);
	/* crun permutes: options may also follow the container's id. */
	while (args_starts(a) && w->at < w->argc) {
		r = take_options(a, w, start_options, e);
		if (r < 0 || w->at == w->argc)
			return r;
		if (!a->id)
			a->id = w->argv[w->at];
		keep(a, w->argv[w->at++]);
	}
	while (w->at < w->argc)
		keep(a, w->argv[w->at++]);
	return 0;
}

int args_parse(int argc, char **argv, struct args *ret, struct err *e)
{
	struct walk w = {.argv = argv, .argc = argc};
	_cleanup_args_ struct args a = {.bundle = "."};
	int r;

	a.argv = calloc((size_t)argc + 1, sizeof(*a.argv));
	if (!a.argv || argc < 1)
		return err_errno(e, a.argv ? -EINVAL : -ENOMEM, "the command line");
	r = take_all(&a, &w, e);
	if (r < 0)
		return r;
	*ret = a;
	a = (struct args){0};
	return 0;
}

void args_free(struct args *a)
{
	free(a->argv);
	*a = (struct args){0};
}

bool args_starts(const struct args *a)
{
	return a->command && (strcmp(a->command, "create") == 0 || strcmp(a->command, "run") == 0);
}
