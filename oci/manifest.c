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

#define REF_NAME        "org.opencontainers.image.ref.name"
#define CONTAINERD_NAME "io.containerd.image.name"

/* Room for the name of a document and of a member in it: "manifest sha256:…: layers[127]". */
#define WHAT_MAX 256

/* --- choice --------------------------------------------------------------------------------- */

/* containerd, Docker and podman agree on what an architecture without a variant means. */
static const char *base_variant(const char *arch, const char *variant)
{
	if (*variant)
		return variant;
	if (strcmp(arch, "arm64") == 0)
		return "v8";
	if (strcmp(arch, "arm") == 0)
		return "v7";
	return strcmp(arch, "amd64") == 0 ? "v1" : "";
}

/* How well an entry answers what is asked for; the first of the best is taken. */
enum fit {
	FIT_NOT,
	FIT_SILENT,  /* no platform: may be right */
	FIT_VARIANT, /* another variant, and none was asked for */
	FIT_EXACT,
};

static const char *or_empty(const char *s)
{
	return s ? s : "";
}

static enum fit platform_fit(const struct json *platform, const struct platform *want)
{
	const char *os = or_empty(json_get_str(platform, "os"));
	const char *arch = or_empty(json_get_str(platform, "architecture"));
	const char *variant = or_empty(json_get_str(platform, "variant"));

	if (!*os && !*arch)
		return FIT_SILENT;
	if (strcmp(os, want->os) != 0 || strcmp(arch, want->arch) != 0)
		return FIT_NOT;
	/* An image in another form than tar layers ("erofs") says so here. */
	if (json_count(json_get(platform, "os.features")) > 0)
		return FIT_NOT;
	if (strcmp(base_variant(arch, variant), base_variant(arch, want->variant)) == 0)
		return FIT_EXACT;
	return *want->variant ? FIT_NOT : FIT_VARIANT;
}

static enum fit entry_fit(const struct json *entry, const struct platform *want)
{
	enum media media = media_of(json_get_str(entry, "mediaType"));
	enum fit fit = platform_fit(json_get(entry, "platform"), want);

	if (media != MEDIA_MANIFEST && media != MEDIA_INDEX)
		return FIT_NOT;
	/* Signatures, SOCI indexes and the like stand beside the images they belong to. */
	if (fit == FIT_SILENT && json_get_str(entry, "artifactType"))
		return FIT_NOT;
	return fit;
}

/* The two names an entry of a layout's index.json may have. */
static const char *entry_name(const struct json *entry)
{
	const struct json *notes = json_get(entry, "annotations");
	const char *name = json_get_str(notes, REF_NAME);

	return name ? name : json_get_str(notes, CONTAINERD_NAME);
}

static bool entry_is(const struct json *entry, const char *ref)
{
	const struct json *notes = json_get(entry, "annotations");
	const char *name = json_get_str(notes, REF_NAME);
	const char *full = json_get_str(notes, CONTAINERD_NAME);

	return (name && strcmp(name, ref) == 0) || (full && strcmp(full, ref) == 0);
}

/* Names for an error message, "a, b, c"; "…" stands for those that do not fit. */
struct list {
	char text[200];
	size_t len;
	bool full;
};

static void list_add(struct list *l, const char *text)
{
	size_t room = sizeof(l->text) - l->len;
	int n;

	if (l->full || !*text)
		return;
	n = snprintf(l->text + l->len, room, "%s%.60s", l->len ? ", " : "", text);
	/* 6: the comma, the blank, the ellipsis and the NUL always find room. */
	if (n < 0 || (size_t)n + 6 > room) {
		snprintf(l->text + l->len, room, "%s…", l->len ? ", " : "");
		l->full = true;
		return;
	}
	l->len += (size_t)n;
}

static void list_add_platform(struct list *l, const struct json *platform)
{
	const char *os = or_empty(json_get_str(platform, "os"));
	const char *arch = or_empty(json_get_str(platform, "architecture"));
	const char *variant = or_empty(json_get_str(platform, "variant"));
	char text[64];

	/* Build attestations are entries for "unknown/unknown". */
	if (!*os || strcmp(os, "unknown") == 0)
		return;
	snprintf(text, sizeof(text), "%.20s/%.20s%s%.18s", os, arch, *variant ? "/" : "", variant);
	list_add(l, text);
}

static void list_add_entry(struct list *l, const struct json *entry)
{
	const char *name = entry_name(entry);

	if (name)
		list_add(l, name);
	else
		list_add(l, or_empty(json_get_str(entry, "digest")));
}

static int refuse_choice(const struct json *entries, const char *ref, const char *what,
			 const struct platform *want, struct err *e)
{
	struct list seen = {.len = 0};

	for (size_t i = 0; i < json_count(entries); i++) {
		const struct json *entry = json_at(entries, i);

		if (!ref || entry_is(entry, ref))
			list_add_platform(&seen, json_get(entry, "platform"));
	}
	return err_set(e, -ENOENT, "%s has no image for %s/%s%s%s%s%s", what, want->os, want->arch,
		       *want->variant ? "/" : "", want->variant, seen.len ? "; it has " : "",
		       seen.text);
}

/* The best entry for @want among those named @ref (all of them when @ref is NULL). */
static int choose(const struct json *entries, const char *ref, const char *what,
		  const struct platform *want, struct descriptor *ret, struct err *e)
{
	enum fit best = FIT_NOT;
	size_t chosen = 0;
	char name[WHAT_MAX];

	for (size_t i = 0; i < json_count(entries); i++) {
		const struct json *entry = json_at(entries, i);
		enum fit fit = !ref || entry_is(entry, ref) ? entry_fit(entry, want) : FIT_NOT;

		if (fit > best) {
			best = fit;
			chosen = i;
		}
	}
	if (best == FIT_NOT)
		return refuse_choice(entries, ref, what, want, e);
	snprintf(name, sizeof(name), "%s: manifests[%zu]", what, chosen);
	return descriptor_parse(json_at(entries, chosen), name, ret, e);
}

/* --- documents ------------------------------------------------------------------------------ */

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

/*
 * What the transport and the document say this is, or what it looks like when neither does.
 * A document that could be read in two ways is refused: one reader's image would be another's
 * index (CVE-2021-41190).
 */
static int find_media(const struct json *doc, const char *content_type, const char *what,
		      enum media *ret, struct err *e)
{
	const char *own = json_get_str(doc, "mediaType");
	size_t len = strcspn(or_empty(content_type), "; \t");
	bool is_index = json_get(doc, "manifests") != NULL;
	bool is_manifest = json_get(doc, "layers") || json_get(doc, "config");
	const char *type = own;
	enum media media;

	if (content_type && !type_is_generic(content_type, len)) {
		if (own && (strlen(own) != len || strncasecmp(own, content_type, len) != 0))
			return err_set(e, -EINVAL, "%s calls itself %.100s but was sent as %.*s",
				       what, own, (int)(len < 100 ? len : 100), content_type);
		type = content_type;
	}
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

static int refuse_artifact(const char *member, const struct json *v, struct err *e)
{
	return err_set(e, -EINVAL,
		       "%s is of type %.100s: this is an artifact, not a container image", member,
		       or_empty(json_get_str(v, "mediaType")));
}

static int read_config(const struct json *doc, const char *what, struct descriptor *ret,
		       struct err *e)
{
	const struct json *v = json_get(doc, "config");
	const char *type = or_empty(json_get_str(v, "mediaType"));
	struct descriptor d;
	char name[WHAT_MAX];
	int r;

	snprintf(name, sizeof(name), "%s: config", what);
	if (!v)
		return err_set(e, -EINVAL, "%s has no config", what);
	r = descriptor_parse(v, name, &d, e);
	if (r < 0)
		return r;
	/* Docker 1.10 and 1.11 pushed configs as octet-stream. */
	if (d.media == MEDIA_UNKNOWN && strcmp(type, "application/octet-stream") == 0)
		d.media = MEDIA_CONFIG;
	if (d.media != MEDIA_CONFIG)
		return refuse_artifact(name, v, e);
	*ret = d;
	return 0;
}

static int read_layer(const struct json *layers, size_t i, const char *what, struct descriptor *ret,
		      struct err *e)
{
	const struct json *v = json_at(layers, i);
	struct descriptor d;
	char name[WHAT_MAX];
	int r;

	snprintf(name, sizeof(name), "%s: layers[%zu]", what, i);
	r = descriptor_parse(v, name, &d, e);
	if (r < 0)
		return r;
	if (!media_is_layer(d.media))
		return refuse_artifact(name, v, e);
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
			    ? choose(entries, NULL, what, want, &d.chosen, e)
			    : err_set(e, -EINVAL, "%s has no list of manifests", what);
	}
	if (r < 0)
		return r;
	*ret = d;
	return 0;
}

/* --- image layouts -------------------------------------------------------------------------- */

static int check_name(const struct json *entries, const char *ref, const char *what, struct err *e)
{
	struct list names = {.len = 0};
	size_t n = json_count(entries);
	bool found = ref ? false : n == 1;

	for (size_t i = 0; i < n && !found; i++) {
		found = ref && entry_is(json_at(entries, i), ref);
		list_add_entry(&names, json_at(entries, i));
	}
	if (found)
		return 0;
	if (n == 0)
		return err_set(e, -ENOENT, "%s lists no image", what);
	if (ref)
		return err_set(e, -ENOENT, "%s has no image '%.100s'; it has %s", what, ref,
			       names.text);
	return err_set(e, -EINVAL, "%s has %zu images, name one of them: %s", what, n, names.text);
}

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
	r = check_name(entries, ref, what, e);
	if (r < 0)
		return r;
	return choose(entries, ref, what, want, ret, e);
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
