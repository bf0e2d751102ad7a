/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/store/filling.h"
#include "plugin/store/images.h"
#include "plugin/store/pin_make.h"

#define _cleanup_strv_ __attribute__((cleanup(strv_free)))

static bool has(const struct strv *s, const char *text)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->v[i], text) == 0)
			return true;
	return false;
}

/* The request's paths, in the form that the index has them. */
static int read_paths(const struct ctl_task *t, struct strv *ret, struct err *e)
{
	const struct json *list = json_get(t->args, "paths");
	char path[LIMIT_PATH];
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_count(list); i++) {
		const char *text = json_str(json_at(list, i));

		if (!text || pin_path(text, path) < 0)
			return err_set(e, CTL_USAGE, "'%.200s' is no path in an image",
				       text ? text : "");
		if (!has(ret, path))
			r = strv_add(ret, path);
	}
	return r < 0 ? err_errno(e, r, "pinning") : 0;
}

static uint64_t bytes_of_pin(const struct pin *p, const struct record *rec)
{
	uint64_t sum = 0;

	if (p->paths.n == 0) {
		for (uint32_t i = 0; i < rec->nlayers; i++)
			sum += rec->layers[i].size;
		return sum;
	}
	for (size_t i = 0; i < p->nlayers; i++)
		for (size_t k = 0; k < p->layers[i].n; k++)
			sum += p->layers[i].v[k].end - p->layers[i].v[k].off;
	return sum;
}

/* Paths that were pinned before stay pinned; an image that is pinned whole stays so. */
static int join(struct engine *en, const struct record *rec, struct strv *paths, struct err *e)
{
	_cleanup_pin_ struct pin old = {.name = NULL};
	int r = pins_get(en, &rec->manifest, &old, e);

	if (r <= 0)
		return r;
	if (old.paths.n == 0)
		strv_free(paths);
	r = 0;
	for (size_t i = 0; r == 0 && paths->n > 0 && i < old.paths.n; i++)
		if (!has(paths, old.paths.v[i]))
			r = strv_add(paths, old.paths.v[i]);
	return r < 0 ? err_errno(e, r, "pinning") : 0;
}

/* A second copy, for filling; the first one belongs to the list of pins by now. */
static int fill(struct engine *en, const struct digest *image, struct err *e)
{
	_cleanup_pin_ struct pin p = {.name = NULL};
	struct pin_layer *v;
	size_t n;
	int r = pins_get(en, image, &p, e);

	if (r <= 0)
		return r;
	v = take_ptr(p.layers);
	n = p.nlayers;
	p.nlayers = 0;
	r = filling_start(en, v, n);
	return r < 0 ? err_errno(e, r, "filling what is pinned") : 0;
}

static int pin_paths(struct ctl_task *t, const char *image, const struct record *rec,
		     struct strv *paths, struct json_gen *done, struct err *e)
{
	_cleanup_pin_ struct pin p = {.name = NULL};
	uint64_t bytes;
	int r = pin_make(t->en, rec, image, paths, &p, e);

	if (r < 0)
		return err_wrap(e, r, "%.200s", image);
	bytes = bytes_of_pin(&p, rec);
	r = pins_put(t->en, &p, e);
	if (r == 0)
		r = fill(t->en, &rec->manifest, e);
	if (r < 0)
		return r;
	json_put_int(done, "paths", (int64_t)paths->n);
	json_put_int(done, "bytes", (int64_t)bytes);
	return 0;
}

int verb_pin(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *image = arg_str(t, "image", e);
	_cleanup_(record_freep) struct record *rec = NULL;
	_cleanup_strv_ struct strv paths = {.n = 0};
	int r = image ? image_find(t->en, image, &rec, e) : CTL_USAGE;

	if (r == 0)
		r = read_paths(t, &paths, e);
	/* Without paths it is the whole image, whatever was pinned of it before. */
	if (r == 0 && paths.n > 0)
		r = join(t->en, rec, &paths, e);
	return r < 0 ? r : pin_paths(t, image, rec, &paths, done, e);
}

/* What is left of a pin without @paths; none left: it goes. */
static int unpin_paths(struct ctl_task *t, const char *image, const struct record *rec,
		       const struct strv *paths, struct json_gen *done, struct err *e)
{
	_cleanup_pin_ struct pin old = {.name = NULL};
	_cleanup_pin_ struct pin p = {.name = NULL};
	_cleanup_strv_ struct strv left = {.n = 0};
	bool had = false;
	int r = pins_get(t->en, &rec->manifest, &old, e);

	if (r == 0)
		return err_set(e, -ENOENT, "%.200s is not pinned", image);
	for (size_t i = 0; r >= 0 && i < paths->n; i++)
		if (!has(&old.paths, paths->v[i]))
			return err_set(e, -ENOENT, "%.200s: %.200s is not pinned", image,
				       paths->v[i]);
	for (size_t i = 0; r >= 0 && i < old.paths.n; i++)
		if (paths->n > 0 && !has(paths, old.paths.v[i]))
			r = strv_add(&left, old.paths.v[i]) < 0 ? -ENOMEM : r;
	if (r < 0)
		return e && e->code ? r : err_errno(e, r, "unpinning");
	json_put_int(done, "paths", (int64_t)left.n);
	if (left.n == 0)
		return pins_drop(t->en, &rec->manifest, &had, e);
	r = pin_make(t->en, rec, image, &left, &p, e);
	return r < 0 ? r : pins_put(t->en, &p, e);
}

int verb_unpin(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *image = arg_str(t, "image", e);
	_cleanup_(record_freep) struct record *rec = NULL;
	_cleanup_strv_ struct strv paths = {.n = 0};
	int r = image ? image_find(t->en, image, &rec, e) : CTL_USAGE;

	if (r == 0)
		r = read_paths(t, &paths, e);
	return r < 0 ? r : unpin_paths(t, image, rec, &paths, done, e);
}
