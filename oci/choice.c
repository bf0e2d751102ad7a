/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/choice.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"

#define REF_NAME        "org.opencontainers.image.ref.name"
#define CONTAINERD_NAME "io.containerd.image.name"

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

int choice_make(const struct json *entries, const char *ref, const char *what,
		const struct platform *want, struct descriptor *ret, struct err *e)
{
	enum fit best = FIT_NOT;
	size_t chosen = 0;
	char name[CHOICE_WHAT];

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

int choice_named(const struct json *entries, const char *ref, const char *what, struct err *e)
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
