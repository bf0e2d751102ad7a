/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/choice.h"

static int document_open(const void *data, size_t len, const char *what, struct json **ret,
			 struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	int r;

	r = json_parse(data, len, LIMIT_MANIFEST, what, &doc, e);
	if (r < 0)
		return r;
	if (!json_is_object(doc))
		return err_set(e, -EINVAL, "%s is not a JSON object", what);
	*ret = take_ptr(doc);
	return 0;
}

static int check_schema(const struct json *doc, const char *what, struct err *e)
{
	int64_t version = 2;

	if (json_get(doc, "schemaVersion") && !json_get_int(doc, "schemaVersion", &version))
		return err_set(e, -EINVAL, "%s: schemaVersion is not a whole number", what);
	if (version == 1 || json_get(doc, "fsLayers"))
		return err_set(e, -EINVAL,
			       "%s is a schema 1 manifest, which Docker stopped writing in 2017: "
			       "push the image again with a current tool",
			       what);
	if (version != 2)
		return err_set(e, -EINVAL, "%s has schemaVersion %" PRId64 ", expected 2", what,
			       version);
	return 0;
}

/* Types under which a file server hands out anything: they say nothing about the document. */
static bool type_is_generic(const char *type, size_t len)
{
	static const char *const generic[] = {
		"application/json",
		"application/octet-stream",
		"text/plain",
	};

	for (size_t i = 0; i < ARRAY_LEN(generic); i++) {
		if (strlen(generic[i]) == len && strncasecmp(generic[i], type, len) == 0)
			return true;
	}
	return len == 0;
}

/* The type that the transport and the document agree on; NULL when neither names one. */
static int find_type(const struct json *doc, const char *content_type, const char *what,
		     const char **ret, struct err *e)
{
	const char *own = json_get_str(doc, "mediaType");
	size_t len = content_type ? strcspn(content_type, "; \t") : 0;

	if (!content_type || type_is_generic(content_type, len)) {
		*ret = own;
		return 0;
	}
	if (own && (strlen(own) != len || strncasecmp(own, content_type, len) != 0))
		return err_set(e, -EINVAL, "%s calls itself %.100s but was sent as %.*s", what, own,
			       (int)(len < 100 ? len : 100), content_type);
	*ret = content_type;
	return 0;
}

/*
 * MEDIA_INDEX or MEDIA_MANIFEST, by its type, or by what it looks like when it has none. A
 * document that could be read in both ways is refused: one reader's image would be another's
 * index (CVE-2021-41190).
 */
static int find_media(const struct json *doc, const char *content_type, const char *what,
		      enum media *ret, struct err *e)
{
	bool is_index = json_get(doc, "manifests") != NULL;
	bool is_manifest = json_get(doc, "layers") || json_get(doc, "config");
	const char *type = NULL;
	enum media media;
	int r;

	r = find_type(doc, content_type, what, &type, e);
	if (r < 0)
		return r;
	if (is_index && is_manifest)
		return err_set(e, -EINVAL, "%s is an index and an image manifest at once", what);
	media = type ? media_of(type) : is_index ? MEDIA_INDEX : MEDIA_MANIFEST;
	if (media != MEDIA_INDEX && media != MEDIA_MANIFEST)
		return err_set(e, -EINVAL, "%s is of type %.100s, not a container image", what,
			       type);
	*ret = media;
	return 0;
}

static bool media_is_layer(enum media m)
{
	return m == MEDIA_LAYER_TAR || m == MEDIA_LAYER_GZIP || m == MEDIA_LAYER_ZSTD;
}

/* @type: of a descriptor that was parsed, and so has one. */
static int refuse_artifact(const char *member, const char *type, struct err *e)
{
	return err_set(e, -EINVAL,
		       "%s is of type %.100s: this is an artifact, not a container image", member,
		       type);
}

static int read_config(const struct json *doc, const char *what, struct descriptor *ret,
		       struct err *e)
{
	const struct json *v = json_get(doc, "config");
	struct descriptor d;
	char name[CHOICE_WHAT];
	const char *type;
	int r;

	if (!v)
		return err_set(e, -EINVAL, "%s has no config", what);
	snprintf(name, sizeof(name), "%s: config", what);
	r = descriptor_parse(v, name, &d, e);
	if (r < 0)
		return r;
	type = json_get_str(v, "mediaType");
	/* Docker 1.10 and 1.11 pushed configs as octet-stream. */
	if (strcmp(type, "application/octet-stream") == 0)
		d.media = MEDIA_CONFIG;
	if (d.media != MEDIA_CONFIG)
		return refuse_artifact(name, type, e);
	*ret = d;
	return 0;
}

static int read_layer(const struct json *layers, size_t i, const char *what, struct descriptor *ret,
		      struct err *e)
{
	const struct json *v = json_at(layers, i);
	struct descriptor d;
	char name[CHOICE_WHAT];
	int r;

	snprintf(name, sizeof(name), "%s: layers[%zu]", what, i);
	r = descriptor_parse(v, name, &d, e);
	if (r < 0)
		return r;
	if (!media_is_layer(d.media))
		return refuse_artifact(name, json_get_str(v, "mediaType"), e);
	*ret = d;
	return 0;
}

static int read_manifest(const struct json *doc, const char *what, struct manifest *ret,
			 struct err *e)
{
	const struct json *layers = json_get(doc, "layers");
	size_t n = json_count(layers);
	int r;

	r = read_config(doc, what, &ret->config, e);
	if (r < 0)
		return r;
	if (!json_is_array(layers))
		return err_set(e, -EINVAL, "%s has no list of layers", what);
	if (n > LIMIT_LAYERS)
		return err_set(e, -EINVAL, "%s has %zu layers, more than the %d we take", what, n,
			       LIMIT_LAYERS);
	for (size_t i = 0; i < n; i++) {
		r = read_layer(layers, i, what, &ret->layers[i], e);
		if (r < 0)
			return r;
	}
	ret->nlayers = (uint32_t)n;
	return 0;
}

int manifest_parse(const void *data, size_t len, const char *content_type, const char *what,
		   const struct platform *want, struct manifest_doc *ret, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	struct manifest_doc d = {.media = MEDIA_UNKNOWN};
	const struct json *entries;
	int r;

	if ((r = document_open(data, len, what, &doc, e)) < 0 ||
	    (r = check_schema(doc, what, e)) < 0 ||
	    (r = find_media(doc, content_type, what, &d.media, e)) < 0)
		return r;
	if (d.media == MEDIA_MANIFEST) {
		r = read_manifest(doc, what, &d.manifest, e);
	} else {
		entries = json_get(doc, "manifests");
		r = json_is_array(entries)
			    ? choice_make(entries, NULL, what, want, &d.chosen, e)
			    : err_set(e, -EINVAL, "%s has no list of manifests", what);
	}
	if (r < 0)
		return r;
	*ret = d;
	return 0;
}

/* --- image layouts -------------------------------------------------------------------------- */

int layout_index_find(const void *data, size_t len, const char *ref, const char *what,
		      const struct platform *want, struct descriptor *ret, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	const struct json *entries;
	int r;

	if ((r = document_open(data, len, what, &doc, e)) < 0 ||
	    (r = check_schema(doc, what, e)) < 0)
		return r;
	entries = json_get(doc, "manifests");
	if (!json_is_array(entries))
		return err_set(e, -EINVAL, "%s has no list of manifests", what);
	r = choice_named(entries, ref, what, e);
	if (r < 0)
		return r;
	return choice_make(entries, ref, what, want, ret, e);
}

int layout_version_check(const void *data, size_t len, const char *what, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	const char *version;
	int r;

	r = document_open(data, len, what, &doc, e);
	if (r < 0)
		return r;
	version = json_get_str(doc, "imageLayoutVersion");
	if (!version)
		return err_set(e, -EINVAL, "%s has no imageLayoutVersion", what);
	if (strncmp(version, "1.", 2) != 0)
		return err_set(e, -EINVAL, "%s is of image layout version %.20s, expected 1.x",
			       what, version);
	return 0;
}
