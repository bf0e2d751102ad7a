/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pins.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "plugin/engine.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"

/*
 * Two locks: `changing` is held by a task from reading to writing the file, `lock` for moments
 * only, so that the loop thread never waits for the keeper.
 */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the rest */
static struct pins pins;                                 /* owned */
static bool loaded;

static void unlock(pthread_mutex_t **m)
{
	pthread_mutex_unlock(*m);
}

static pthread_mutex_t *take(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

#define _cleanup_unlock_ _unused_ __attribute__((cleanup(unlock)))

bool pins_bytes(const struct digest *diff_id, uint64_t off, uint64_t end)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&lock);

	return !loaded || pins_cover(&pins, diff_id, off, end);
}

bool pins_span(const struct layer *l, uint32_t span)
{
	uint64_t off = index_span_start(&l->index, span);

	return pins_bytes(&l->diff_id, off, off + index_span_len(&l->index, span));
}

static bool is_loaded(void)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&lock);

	return loaded;
}

/* The caller has `changing`. */
static int load(struct engine *en, struct err *e)
{
	const struct keep_file f = file_of(KEEP_PINS, NULL);
	struct pins ps = {.v = NULL};
	struct err why = ERR_INIT;
	_cleanup_buf_ struct buf b = {0};
	int r;

	if (is_loaded())
		return 0;
	buf_init(&b, LIMIT_PINS);
	r = file_read(en, &f, &b, &why);
	if (r == 0)
		r = pins_decode(b.data, b.len, &ps, &why);
	if (r < 0 && r != -ENOENT)
		return err_take(e, r, why.text, &why.links);
	pthread_mutex_lock(&lock);
	pins = ps;
	loaded = true;
	pthread_mutex_unlock(&lock);
	return 0;
}

int pins_load(struct engine *en, struct err *e)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&changing);

	return load(en, e);
}

/* --- changing; the caller has `changing`, so that nobody else writes to `pins` --- */

static size_t find(const struct digest *image)
{
	size_t i = 0;

	while (i < pins.n && !digest_equal(&pins.v[i].image, image))
		i++;
	return i;
}

/* The list as it shall be: the old one without @image, and @p unless that is NULL. Shallow. */
static int next_list(const struct digest *image, const struct pin *p, struct pins *ret)
{
	ret->n = 0;
	ret->v = calloc(pins.n + 1, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (size_t i = 0; i < pins.n; i++)
		if (!digest_equal(&pins.v[i].image, image))
			ret->v[ret->n++] = pins.v[i];
	if (p)
		ret->v[ret->n++] = *p;
	return 0;
}

static int write_list(struct engine *en, const struct pins *ps, struct err *e)
{
	const struct keep_file f = file_of(KEEP_PINS, NULL);
	_cleanup_buf_ struct buf b = {0};
	int r;

	buf_init(&b, LIMIT_PINS);
	r = pins_encode(ps, &b);
	if (r < 0)
		return err_errno(e, r, "pins.json");
	return file_write(en, &f, b.data, b.len, e);
}

/* First on disk, then in memory. */
static int replace(struct engine *en, const struct digest *image, struct pin *p, struct err *e)
{
	struct pin old = {.name = NULL};
	struct pins next;
	size_t at = find(image);
	int r = next_list(image, p, &next);

	if (r < 0)
		return err_errno(e, r, "pins.json");
	r = write_list(en, &next, e);
	if (r < 0) {
		free(next.v);
		return r;
	}
	pthread_mutex_lock(&lock);
	if (at < pins.n)
		old = pins.v[at];
	free(pins.v);
	pins = next;
	pthread_mutex_unlock(&lock);
	pin_free(&old);
	if (p)
		*p = (struct pin){.name = NULL};
	return 0;
}

int pins_put(struct engine *en, struct pin *p, struct err *e)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&changing);
	const struct digest image = p->image;
	int r = load(en, e);

	return r < 0 ? r : replace(en, &image, p, e);
}

int pins_drop(struct engine *en, const struct digest *image, bool *ret_had, struct err *e)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&changing);
	bool had;
	int r = load(en, e);

	if (r < 0)
		return r;
	had = find(image) < pins.n;
	r = had ? replace(en, image, NULL, e) : 0;
	if (r == 0)
		*ret_had = had;
	return r;
}

/* --- looking --- */

static int copy_layer(const struct pin_layer *from, struct pin_layer *to)
{
	*to = *from;
	to->v = calloc(from->n ? from->n : 1, sizeof(*to->v));
	if (!to->v)
		return -ENOMEM;
	if (from->n)
		memcpy(to->v, from->v, from->n * sizeof(*to->v));
	return 0;
}

static int copy(const struct pin *from, struct pin *to)
{
	int r = 0;

	to->image = from->image;
	to->name = strdup(from->name);
	to->layers = calloc(from->nlayers ? from->nlayers : 1, sizeof(*to->layers));
	if (!to->name || !to->layers)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < from->paths.n; i++)
		r = strv_add(&to->paths, from->paths.v[i]);
	for (size_t i = 0; r == 0 && i < from->nlayers; i++) {
		r = copy_layer(&from->layers[i], &to->layers[i]);
		to->nlayers++;
	}
	return r;
}

int pins_get(struct engine *en, const struct digest *image, struct pin *ret, struct err *e)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&changing);
	_cleanup_pin_ struct pin p = {.name = NULL};
	int r = load(en, e);

	if (r < 0)
		return r;
	if (find(image) == pins.n)
		return 0;
	r = copy(&pins.v[find(image)], &p);
	if (r < 0)
		return err_errno(e, r, "pins.json");
	*ret = p;
	p = (struct pin){.name = NULL};
	return 1;
}

int pins_images(struct engine *en, struct digest **ret, size_t *ret_n, struct err *e)
{
	_cleanup_unlock_ pthread_mutex_t *held = take(&changing);
	struct digest *list;
	int r = load(en, e);

	if (r < 0)
		return r;
	list = calloc(pins.n ? pins.n : 1, sizeof(*list));
	if (!list)
		return err_errno(e, -ENOMEM, "pins.json");
	for (size_t i = 0; i < pins.n; i++)
		list[i] = pins.v[i].image;
	*ret = list;
	*ret_n = pins.n;
	return 0;
}
