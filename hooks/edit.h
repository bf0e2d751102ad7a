/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_EDIT_H
#define HOOKS_EDIT_H

#include <stddef.h>

struct buf;
struct err;
struct json;

struct edit_annotation {
	const char *key, *value;
};

/*
 * Writes @doc, a runtime-spec config.json, with another root.path (@root NULL: the same) and with
 * these annotations set. All the rest is copied as it was read, numbers digit by digit, so that
 * nothing that we do not know is lost. Failures are sticky in @out, too.
 */
int edit_config(const struct json *doc, const char *root, const struct edit_annotation *set,
		size_t n, struct buf *out, struct err *e);

#endif
