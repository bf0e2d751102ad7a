/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "plugin/store/pins.h"

#define PINS_VERSION 1

void pin_free(struct pin *p)
{
	free(p->name);
	strv_free(&p->paths);
	for (size_t i = 0; i < p->nlayers; i++)
		free(p->layers[i].v);
	free(p->layers);
	*p = (struct pin){.name = NULL};
}

void pins_free(struct pins *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		pin_free(&ps->v[i]);
	free(ps->v);
	*ps = (struct pins){.v = NULL};
}

static bool layer_covers(const struct pin_layer *l, uint64_t off, uint64_t end)
{
	if (l->whole)
		return true;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].off < end && off < l->v[i].end)
			return true;
	return false;
}

bool pins_cover(const struct pins *ps, const struct digest *diff_id, uint64_t off, uint64_t end)
{
	for (size_t i = 0; i < ps->n; i++)
		for (size_t k = 0; k < ps->v[i].nlayers; k++)
			if (digest_equal(&ps->v[i].layers[k].diff_id, diff_id) &&
			    layer_covers(&ps->v[i].layers[k], off, end))
				return true;
	return false;
}

/* --- writing --- */

static void put_layer(struct json_gen *g, const struct pin_layer *l)
{
	char text[DIGEST_TEXT];

	json_open_map(g, NULL);
	json_put_str(g, "diff_id", digest_text(&l->diff_id, text));
	if (!digest_is_zero(&l->scope))
		json_put_str(g, "scope", digest_text(&l->scope, text));
	json_put_bool(g, "whole", l->whole);
	json_open_array(g, "ranges");
	for (size_t i = 0; i < l->n; i++) {
		json_put_int(g, NULL, (int64_t)l->v[i].off);
		json_put_int(g, NULL, (int64_t)l->v[i].end);
	}
	json_close_array(g);
	json_close_map(g);
}

static void put_pin(struct json_gen *g, const struct pin *p)
{
	char text[DIGEST_TEXT];

	json_open_map(g, NULL);
	json_put_str(g, "image", digest_text(&p->image, text));
	json_put_str(g, "name", p->name);
	json_open_array(g, "paths");
	for (size_t i = 0; i < p->paths.n; i++)
		json_put_str(g, NULL, p->paths.v[i]);
	json_close_array(g);
	json_open_array(g, "layers");
	for (size_t i = 0; i < p->nlayers; i++)
		put_layer(g, &p->layers[i]);
	json_close_array(g);
	json_close_map(g);
}

int pins_encode(const struct pins *ps, struct buf *out)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(out, true);

	if (!g)
		return -ENOMEM;
	json_open_map(g, NULL);
	json_put_int(g, "version", PINS_VERSION);
	json_open_array(g, "pins");
	for (size_t i = 0; i < ps->n; i++)
		put_pin(g, &ps->v[i]);
	json_close_array(g);
	json_close_map(g);
	return out->failed;
}

/* --- reading --- */

static int get_digest(const struct json *v, const char *key, struct digest *ret)
{
	const char *text = json_get_str(v, key);

	return text ? digest_parse(text, ret, NULL) : -EBADMSG;
}

static int get_ranges(const struct json *v, struct pin_layer *l)
{
	size_t n = json_count(v) / 2;
	uint64_t last = 0;

	if (!json_is_array(v) || json_count(v) % 2 != 0)
		return -EBADMSG;
	l->v = calloc(n ? n : 1, sizeof(*l->v));
	if (!l->v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int64_t off, end;

		if (!json_int(json_at(v, 2 * i), &off) || !json_int(json_at(v, 2 * i + 1), &end) ||
		    off < 0 || end <= off || (uint64_t)off < last)
			return -EBADMSG;
		l->v[l->n++] = (struct pin_range){.off = (uint64_t)off, .end = (uint64_t)end};
		last = (uint64_t)end;
	}
	return 0;
}

static int get_layer(const struct json *v, struct pin_layer *l)
{
	if (get_digest(v, "diff_id", &l->diff_id) < 0)
		return -EBADMSG;
	if (json_get(v, "scope") && get_digest(v, "scope", &l->scope) < 0)
		return -EBADMSG;
	l->whole = json_bool(json_get(v, "whole"), false);
	return get_ranges(json_get(v, "ranges"), l);
}

static int get_paths(const struct json *v, struct strv *ret)
{
	for (size_t i = 0; i < json_count(v); i++) {
		const char *s = json_str(json_at(v, i));
		int r = s ? strv_add(ret, s) : -EBADMSG;

		if (r < 0)
			return r;
	}
	return json_is_array(v) ? 0 : -EBADMSG;
}

static int get_pin(const struct json *v, struct pin *p)
{
	const struct json *layers = json_get(v, "layers");
	const char *name = json_get_str(v, "name");
	int r;

	if (get_digest(v, "image", &p->image) < 0 || !name || !json_is_array(layers) ||
	    json_count(layers) > LIMIT_LAYERS)
		return -EBADMSG;
	p->name = strdup(name);
	p->layers = calloc(LIMIT_LAYERS, sizeof(*p->layers));
	if (!p->name || !p->layers)
		return -ENOMEM;
	r = get_paths(json_get(v, "paths"), &p->paths);
	for (size_t i = 0; r == 0 && i < json_count(layers); i++)
		r = get_layer(json_at(layers, i), &p->layers[p->nlayers++]);
	return r;
}

static int get_pins(const struct json *doc, struct pins *ps)
{
	const struct json *list = json_get(doc, "pins");
	int64_t version;
	int r = 0;

	if (!json_get_int(doc, "version", &version) || version != PINS_VERSION ||
	    !json_is_array(list))
		return -EBADMSG;
	ps->v = calloc(json_count(list) ? json_count(list) : 1, sizeof(*ps->v));
	if (!ps->v)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < json_count(list); i++)
		r = get_pin(json_at(list, i), &ps->v[ps->n++]);
	return r;
}

int pins_decode(const void *data, size_t len, struct pins *ret, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_pins_ struct pins ps = {.v = NULL};
	int r = json_parse(data, len, LIMIT_PINS, "pins.json", &doc, e);

	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	r = get_pins(doc, &ps);
	if (r == -ENOMEM)
		return err_errno(e, r, "pins.json");
	if (r < 0)
		return err_set(e, -EBADMSG, "pins.json: not a list of pins of version %d",
			       PINS_VERSION);
	*ret = ps;
	ps = (struct pins){.v = NULL};
	return 0;
}
