/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/ref.h"

#define RECORD_VERSION 1
#define PREFIX_MIN     12 /* hex digits of a diff_id that name a layer (CONTRACT: LAYER) */

struct record *record_new(void)
{
	return calloc(1, sizeof(struct record));
}

struct record *record_free(struct record *r)
{
	if (!r)
		return NULL;
	strv_free(&r->names);
	strv_free(&r->sources);
	free(r);
	return NULL;
}

/* --- writing --- */

static void put_digest(struct json_gen *g, const char *key, const struct digest *d)
{
	char text[DIGEST_TEXT];

	json_put_str(g, key, digest_text(d, text));
}

static void put_descriptor(struct json_gen *g, const char *key, const struct descriptor *d)
{
	json_open_map(g, key);
	json_put_str(g, "mediaType", media_name(d->media));
	put_digest(g, "digest", &d->digest);
	json_put_int(g, "size", (int64_t)d->size);
	json_close_map(g);
}

static void put_strings(struct json_gen *g, const char *key, const struct strv *s)
{
	json_open_array(g, key);
	for (size_t i = 0; i < s->n; i++)
		json_put_str(g, NULL, s->v[i]);
	json_close_array(g);
}

static void put_layer(struct json_gen *g, const struct record_layer *l)
{
	json_open_map(g, NULL);
	put_digest(g, "diff_id", &l->diff_id);
	put_descriptor(g, "blob", &l->blob);
	json_put_int(g, "size", (int64_t)l->size);
	json_put_bool(g, "proved", l->proved);
	json_close_map(g);
}

int record_encode(const struct record *r, struct buf *out)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(out, true);

	if (!g)
		return -ENOMEM;
	json_open_map(g, NULL);
	json_put_int(g, "version", RECORD_VERSION);
	put_strings(g, "names", &r->names);
	put_digest(g, "manifest", &r->manifest);
	json_put_int(g, "manifest_size", (int64_t)r->manifest_size);
	json_put_bool(g, "docker", r->docker);
	json_put_bool(g, "parents", r->parents);
	put_descriptor(g, "config", &r->config);
	json_open_array(g, "layers");
	for (uint32_t i = 0; i < r->nlayers; i++)
		put_layer(g, &r->layers[i]);
	json_close_array(g);
	put_strings(g, "sources", &r->sources);
	json_close_map(g);
	return out->failed;
}

/* --- reading --- */

static int get_digest(const struct json *v, const char *key, struct digest *ret)
{
	const char *text = json_get_str(v, key);

	return text ? digest_parse(text, ret, NULL) : -EBADMSG;
}

static int get_size(const struct json *v, const char *key, uint64_t *ret)
{
	int64_t n;

	if (!json_get_int(v, key, &n) || n < 0)
		return -EBADMSG;
	*ret = (uint64_t)n;
	return 0;
}

static int get_descriptor(const struct json *v, struct descriptor *ret)
{
	ret->media = media_of(json_get_str(v, "mediaType"));
	if (ret->media == MEDIA_UNKNOWN || get_digest(v, "digest", &ret->digest) < 0)
		return -EBADMSG;
	return get_size(v, "size", &ret->size);
}

static int get_strings(const struct json *v, size_t max, struct strv *ret)
{
	if (!json_is_array(v) || json_count(v) > max)
		return -EBADMSG;
	for (size_t i = 0; i < json_count(v); i++) {
		const char *s = json_str(json_at(v, i));
		int r = s ? strv_add(ret, s) : -EBADMSG;

		if (r < 0)
			return r;
	}
	return 0;
}

static int get_layer(const struct json *v, struct record_layer *ret)
{
	ret->proved = json_bool(json_get(v, "proved"), false);
	if (get_digest(v, "diff_id", &ret->diff_id) < 0 || get_size(v, "size", &ret->size) < 0)
		return -EBADMSG;
	return get_descriptor(json_get(v, "blob"), &ret->blob);
}

static int get_layers(const struct json *v, struct record *ret)
{
	size_t n = json_count(v);

	if (!json_is_array(v) || n == 0 || n > LIMIT_LAYERS)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++)
		if (get_layer(json_at(v, i), &ret->layers[i]) < 0)
			return -EBADMSG;
	ret->nlayers = (uint32_t)n;
	return 0;
}

static int fill_record(const struct json *doc, struct record *r)
{
	int64_t version;
	int err;

	if (!json_get_int(doc, "version", &version) || version != RECORD_VERSION)
		return -EBADMSG;
	r->docker = json_bool(json_get(doc, "docker"), false);
	r->parents = json_bool(json_get(doc, "parents"), false);
	if (get_digest(doc, "manifest", &r->manifest) < 0 ||
	    get_size(doc, "manifest_size", &r->manifest_size) < 0 ||
	    get_descriptor(json_get(doc, "config"), &r->config) < 0 ||
	    get_layers(json_get(doc, "layers"), r) < 0)
		return -EBADMSG;
	err = get_strings(json_get(doc, "names"), LIMIT_RECORD_NAMES, &r->names);
	if (err == 0)
		err = get_strings(json_get(doc, "sources"), LIMIT_SOURCES, &r->sources);
	return err;
}

int record_decode(const void *data, size_t len, const char *what, struct record **ret,
		  struct err *e)
{
	_cleanup_(record_freep) struct record *rec = record_new();
	_cleanup_(json_freep) struct json *doc = NULL;
	int r;

	if (!rec)
		return err_errno(e, -ENOMEM, "%s", what);
	r = json_parse(data, len, LIMIT_RECORD, what, &doc, e);
	if (r < 0)
		return r == -ENOMEM ? r : -EBADMSG;
	r = fill_record(doc, rec);
	if (r == -EBADMSG)
		return err_set(e, r, "%s: not a record of an image of version %d", what,
			       RECORD_VERSION);
	if (r < 0)
		return err_errno(e, r, "%s", what);
	*ret = take_ptr(rec);
	return 0;
}

/* --- what is in it --- */

struct digest record_scope(const struct record *r, const struct record_layer *l)
{
	return l->proved ? (struct digest){.sum = {0}} : r->manifest;
}

static size_t strv_find(const struct strv *s, const char *text)
{
	size_t i = 0;

	while (i < s->n && strcmp(s->v[i], text) != 0)
		i++;
	return i;
}

static void strv_drop(struct strv *s, size_t i)
{
	free(s->v[i]);
	/* The NULL behind the last moves too. */
	memmove(&s->v[i], &s->v[i + 1], (s->n - i) * sizeof(*s->v));
	s->n--;
}

bool record_has_name(const struct record *r, const char *name)
{
	return strv_find(&r->names, name) < r->names.n;
}

int record_add_name(struct record *r, const char *name)
{
	if (!ref_name_valid(name))
		return -EINVAL;
	if (record_has_name(r, name))
		return 0;
	return r->names.n < LIMIT_RECORD_NAMES ? strv_add(&r->names, name) : -E2BIG;
}

bool record_drop_name(struct record *r, const char *name)
{
	size_t i = strv_find(&r->names, name);

	if (i == r->names.n)
		return false;
	strv_drop(&r->names, i);
	return true;
}

int record_add_source(struct record *r, const char *source)
{
	size_t i = strv_find(&r->sources, source);

	if (i < r->sources.n)
		strv_drop(&r->sources, i);
	else if (r->sources.n >= LIMIT_SOURCES)
		strv_drop(&r->sources, 0);
	return strv_add(&r->sources, source);
}

/* --- all of them --- */

void records_free(struct records *rs)
{
	for (size_t i = 0; i < rs->n; i++)
		record_free(rs->v[i]);
	free(rs->v);
	*rs = (struct records){.n = 0};
}

int records_add(struct records *rs, struct record *r)
{
	struct record **v = reallocarray(rs->v, rs->n + 1, sizeof(*v));

	if (!v)
		return -ENOMEM;
	rs->v = v;
	rs->v[rs->n++] = r;
	return 0;
}

struct record *records_by_digest(const struct records *rs, const struct digest *manifest)
{
	for (size_t i = 0; i < rs->n; i++)
		if (digest_equal(&rs->v[i]->manifest, manifest))
			return rs->v[i];
	return NULL;
}

struct record *records_find(const struct records *rs, const char *image)
{
	struct digest d;

	for (size_t i = 0; i < rs->n; i++)
		if (record_has_name(rs->v[i], image))
			return rs->v[i];
	if (digest_parse(image, &d, NULL) == 0)
		return records_by_digest(rs, &d);
	return NULL;
}

/* The hex digits of @text when it can be the beginning of a digest, else NULL. */
static const char *hex_prefix(const char *text)
{
	size_t n;

	if (strncmp(text, "sha256:", 7) == 0)
		text += 7;
	n = strspn(text, "0123456789abcdef");
	return text[n] == '\0' && n > 0 && n <= DIGEST_HEX ? text : NULL;
}

int records_find_layer(const struct records *rs, const char *text, const struct record **ret,
		       const struct record_layer **ret_layer, struct err *e)
{
	const struct record_layer *found = NULL;
	const struct record *of = NULL;
	const char *prefix = hex_prefix(text);
	char hex[DIGEST_HEX + 1];

	if (!prefix)
		return err_set(e, -ENOENT, "layer %.200s is not known", text);
	if (strlen(prefix) < PREFIX_MIN)
		return err_set(e, -EINVAL, "layer %.200s: give at least %d hex digits", text,
			       PREFIX_MIN);
	for (size_t i = 0; i < rs->n; i++) {
		for (uint32_t k = 0; k < rs->v[i]->nlayers; k++) {
			const struct record_layer *l = &rs->v[i]->layers[k];

			if (strncmp(digest_hex(&l->diff_id, hex), prefix, strlen(prefix)) != 0)
				continue;
			if (found && !digest_equal(&found->diff_id, &l->diff_id))
				return err_set(e, -EINVAL,
					       "layer %.200s: several begin so, give more digits",
					       text);
			/* The shared one where some image has not proved it yet. */
			if (!found || (l->proved && !found->proved)) {
				found = l;
				of = rs->v[i];
			}
		}
	}
	if (!found)
		return err_set(e, -ENOENT, "layer %.200s is not known", text);
	*ret = of;
	*ret_layer = found;
	return 0;
}

static void put_manifest(struct json_gen *g, const struct record *r, const char *name)
{
	json_open_map(g, NULL);
	json_put_str(g, "mediaType",
		     r->docker ? "application/vnd.docker.distribution.manifest.v2+json"
			       : media_name(MEDIA_MANIFEST));
	put_digest(g, "digest", &r->manifest);
	json_put_int(g, "size", (int64_t)r->manifest_size);
	if (name) {
		json_open_map(g, "annotations");
		json_put_str(g, "org.opencontainers.image.ref.name", name);
		json_close_map(g);
	}
	json_close_map(g);
}

int records_index_json(const struct records *rs, struct buf *out)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(out, true);

	if (!g)
		return -ENOMEM;
	json_open_map(g, NULL);
	json_put_int(g, "schemaVersion", 2);
	json_put_str(g, "mediaType", media_name(MEDIA_INDEX));
	json_open_array(g, "manifests");
	for (size_t i = 0; i < rs->n; i++) {
		const struct record *r = rs->v[i];

		if (r->names.n == 0)
			put_manifest(g, r, NULL);
		for (size_t k = 0; k < r->names.n; k++)
			put_manifest(g, r, r->names.v[k]);
	}
	json_close_array(g);
	json_close_map(g);
	return out->failed;
}
