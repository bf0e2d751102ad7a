/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/edit.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"

struct edit {
	struct json_gen *g;
	const char *root;
	const struct edit_annotation *set;
	size_t n;
};

static bool is_set(const struct edit *ed, const char *key)
{
	for (size_t i = 0; i < ed->n; i++)
		if (strcmp(ed->set[i].key, key) == 0)
			return true;
	return false;
}

/* What should be an object and is not is replaced by one: it has no members to be kept. */
static size_t members(const struct json *v)
{
	return json_is_object(v) ? json_count(v) : 0;
}

static void put_root(const struct edit *ed, const struct json *root)
{
	json_open_map(ed->g, "root");
	json_put_str(ed->g, "path", ed->root);
	for (size_t i = 0; i < members(root); i++)
		if (strcmp(json_key_at(root, i), "path") != 0)
			json_put_value(ed->g, json_key_at(root, i), json_value_at(root, i));
	json_close_map(ed->g);
}

static void put_annotations(const struct edit *ed, const struct json *old)
{
	json_open_map(ed->g, "annotations");
	for (size_t i = 0; i < members(old); i++)
		if (!is_set(ed, json_key_at(old, i)))
			json_put_value(ed->g, json_key_at(old, i), json_value_at(old, i));
	for (size_t i = 0; i < ed->n; i++)
		json_put_str(ed->g, ed->set[i].key, ed->set[i].value);
	json_close_map(ed->g);
}

int edit_config(const struct json *doc, const char *root, const struct edit_annotation *set,
		size_t n, struct buf *out, struct err *e)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(out, true);
	const struct edit ed = {.g = g, .root = root, .set = set, .n = n};

	if (!g)
		return err_errno(e, -ENOMEM, "config.json");
	json_open_map(g, NULL);
	for (size_t i = 0; i < members(doc); i++) {
		const char *key = json_key_at(doc, i);
		bool ours = (root && strcmp(key, "root") == 0) || strcmp(key, "annotations") == 0;

		if (!ours)
			json_put_value(g, key, json_value_at(doc, i));
	}
	if (root)
		put_root(&ed, json_get(doc, "root"));
	put_annotations(&ed, json_get(doc, "annotations"));
	json_close_map(g);
	return out->failed ? err_errno(e, out->failed, "config.json") : 0;
}
