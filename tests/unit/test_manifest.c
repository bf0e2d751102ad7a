/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/manifest.h"

#define OCI    "application/vnd.oci.image."
#define DOCKER "application/vnd.docker.distribution."

/* A descriptor of the size @n whose digest ends in the same two digits; @more are more members. */
#define ZEROS "00000000000000000000000000000000000000000000000000000000000000"
#define DESC(type, n, more)                                                                        \
	"{\"mediaType\": \"" type "\", \"size\": " n ", \"digest\": \"sha256:" ZEROS n "\"" more "}"
#define LAYER_OF(form, n) DESC(OCI "layer.v1.tar" form, n, "")
#define LAYER(n)          LAYER_OF("+gzip", n)
#define CONFIG            "\"config\": " DESC(OCI "config.v1+json", "10", "")
#define ENTRY(n, more)    DESC(OCI "manifest.v1+json", n, "," more)
#define NO_PLATFORM       "\"annotations\": {}"
#define NAMED(name)       "\"annotations\": {\"org.opencontainers.image.ref.name\": \"" name "\"}"
#define FOR(os, arch, variant)                                                                     \
	"\"platform\": {\"os\": \"" os "\", \"architecture\": \"" arch                             \
	"\", \"variant\": \"" variant "\"}"

static const struct platform amd64 = {"linux", "amd64", ""};

static int parse_as(const char *type, const char *text, const struct platform *want,
		    struct manifest_doc *ret, struct err *e)
{
	return manifest_parse(text, strlen(text), type, "manifest X", want, ret, e);
}

static void refused_as(const char *type, const char *text, const char *message)
{
	struct manifest_doc d = {.media = MEDIA_CONFIG};
	struct err e = ERR_INIT;

	assert_int_equal(parse_as(type, text, &amd64, &d, &e), -EINVAL);
	assert_string_equal(e.text, message);
	assert_int_equal(d.media, MEDIA_CONFIG);
}

static void refused(const char *text, const char *message)
{
	refused_as(NULL, text, message);
}

/* An index of @entries, a list that ends in NULL. */
static void put_index(struct buf *b, const char *const *entries)
{
	buf_init(b, 1 << 20);
	buf_put_str(b, "{\"schemaVersion\": 2, \"manifests\": [");
	for (size_t i = 0; entries[i]; i++)
		buf_printf(b, "%s%s", i ? ", " : "", entries[i]);
	buf_put_str(b, "]}");
	assert_int_equal(b->failed, 0);
}

static int choose(const char *const *entries, const char *platform, struct descriptor *ret,
		  struct err *e)
{
	_cleanup_buf_ struct buf b;
	struct platform want;
	struct manifest_doc d;
	int r;

	put_index(&b, entries);
	assert_int_equal(platform_parse(platform, &want, NULL), 0);
	r = parse_as(NULL, buf_cstr(&b), &want, &d, e);
	if (r < 0)
		return r;
	assert_int_equal(d.media, MEDIA_INDEX);
	*ret = d.chosen;
	return 0;
}

/* The last byte of the digest of what is chosen. */
static int chosen(const char *const *entries, const char *platform)
{
	struct descriptor d;
	struct err e = ERR_INIT;

	if (choose(entries, platform, &d, &e) < 0)
		fail_msg("%s", e.text);
	return d.digest.sum[DIGEST_SIZE - 1];
}

static void not_chosen(const char *const *entries, const char *platform, int code,
		       const char *message)
{
	struct descriptor d;
	struct err e = ERR_INIT;

	assert_int_equal(choose(entries, platform, &d, &e), code);
	assert_string_equal(e.text, message);
}

/* The same for an index.json, where @ref is looked for. */
static int found(const char *const *entries, const char *ref)
{
	_cleanup_buf_ struct buf b;
	struct descriptor d;
	struct err e = ERR_INIT;

	put_index(&b, entries);
	if (layout_index_find(b.data, b.len, ref, "index.json", &amd64, &d, &e) < 0)
		fail_msg("%s", e.text);
	return d.digest.sum[DIGEST_SIZE - 1];
}

static void not_found(const char *const *entries, const char *ref, int code, const char *message)
{
	_cleanup_buf_ struct buf b;
	struct descriptor d = {.size = 77};
	struct err e = ERR_INIT;

	put_index(&b, entries);
	assert_int_equal(layout_index_find(b.data, b.len, ref, "index.json", &amd64, &d, &e), code);
	assert_string_equal(e.text, message);
	assert_int_equal(d.size, 77);
}

static void platforms_are_read(void **state)
{
	struct platform p;

	assert_int_equal(platform_parse("linux/arm64/v8", &p, NULL), 0);
	assert_string_equal(p.os, "linux");
	assert_string_equal(p.arch, "arm64");
	assert_string_equal(p.variant, "v8");
	assert_int_equal(platform_parse("linux/s390x", &p, NULL), 0);
	assert_string_equal(p.arch, "s390x");
	assert_string_equal(p.variant, "");
	assert_int_equal(platform_parse("linux/x86_64", &p, NULL), 0);
	assert_string_equal(p.arch, "amd64");
	assert_int_equal(platform_parse("linux/armv6l", &p, NULL), 0);
	assert_string_equal(p.arch, "arm");
	assert_string_equal(p.variant, "v6");
}

static void wrong_platforms_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"linux",
		"linux/",
		"/amd64",
		"linux//v8",
		"linux/arm64/",
		"linux/arm64/v8/x",
		"linux/amd 64",
		"linux/abcdefghijklmnopqrstuvwxyz0123456789",
	};
	char message[200];

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct platform p = {.os = "untouched"};
		struct err e = ERR_INIT;

		assert_int_equal(platform_parse(texts[i], &p, &e), -EINVAL);
		snprintf(message, sizeof(message),
			 "'%s' is not a platform: expected OS/ARCH[/VARIANT], such as linux/arm64",
			 texts[i]);
		assert_string_equal(e.text, message);
		assert_string_equal(p.os, "untouched");
	}
}

static void this_machine_has_a_platform(void **state)
{
	struct platform p;

	platform_local(&p);
	assert_string_equal(p.os, "linux");
#if defined(__x86_64__)
	assert_string_equal(p.arch, "amd64");
#elif defined(__aarch64__)
	assert_string_equal(p.arch, "arm64");
#else
	assert_true(*p.arch);
#endif
}

static void an_image_manifest_is_read(void **state)
{
	static const char text[] =
		"{\"schemaVersion\": 2, \"mediaType\": \"" OCI "manifest.v1+json\", " CONFIG ","
		"\"layers\": [" LAYER_OF("+gzip", "11") ", " LAYER_OF("", "12") "," LAYER_OF(
			"+zstd", "13") "]}";
	struct manifest_doc d;

	assert_int_equal(parse_as(OCI "manifest.v1+json; charset=utf-8", text, &amd64, &d, NULL),
			 0);
	assert_int_equal(d.media, MEDIA_MANIFEST);
	assert_int_equal(d.manifest.config.media, MEDIA_CONFIG);
	assert_int_equal(d.manifest.config.size, 10);
	assert_int_equal(d.manifest.nlayers, 3);
	assert_int_equal(d.manifest.layers[0].media, MEDIA_LAYER_GZIP);
	assert_int_equal(d.manifest.layers[1].media, MEDIA_LAYER_TAR);
	assert_int_equal(d.manifest.layers[2].media, MEDIA_LAYER_ZSTD);
	assert_int_equal(d.manifest.layers[2].digest.sum[DIGEST_SIZE - 1], 0x13);
}

static void a_docker_manifest_is_read(void **state)
{
	struct manifest_doc d;

	assert_int_equal(
		parse_as(DOCKER "manifest.v2+json",
			 "{\"schemaVersion\": 2, \"mediaType\": \"" DOCKER "manifest.v2+json\","
			 "\"config\": " DESC(
				 "application/octet-stream", "10",
				 "") ","
				     "\"layers\": [" DESC(
					     "application/vnd.docker.image.rootfs.diff.tar.gzip",
					     "11", "") "]}",
			 &amd64, &d, NULL),
		0);
	assert_int_equal(d.manifest.config.media, MEDIA_CONFIG);
	assert_int_equal(d.manifest.nlayers, 1);
}

static const char index_text[] = "{\"manifests\": [" ENTRY("21", FOR("linux", "amd64", "")) "]}";

static void the_kind_is_seen_without_a_media_type(void **state)
{
	struct manifest_doc d;

	assert_int_equal(parse_as(NULL, "{" CONFIG ", \"layers\": []}", &amd64, &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_MANIFEST);
	assert_int_equal(parse_as("application/json", index_text, &amd64, &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_INDEX);
	assert_int_equal(parse_as("", index_text, &amd64, &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_INDEX);
}

static void contradicting_types_are_refused(void **state)
{
	refused_as(DOCKER "manifest.v2+json",
		   "{\"mediaType\": \"" OCI "manifest.v1+json\"," CONFIG ", \"layers\": []}",
		   "manifest X calls itself " OCI "manifest.v1+json but was sent as " DOCKER
		   "manifest.v2+json");
	refused_as(OCI "manifest.v1+json", index_text, "manifest X has no config");
	refused_as(OCI "index.v1+json", "{" CONFIG ", \"layers\": []}",
		   "manifest X has no list of manifests");
	refused("{" CONFIG ", \"layers\": [], \"manifests\": []}",
		"manifest X is an index and an image manifest at once");
}

static void schema_1_is_refused(void **state)
{
	static const char message[] =
		"manifest X is a schema 1 manifest, which Docker stopped writing in 2017: "
		"push the image again with a current tool";

	refused_as(DOCKER "manifest.v1+prettyjws", "{\"schemaVersion\": 1, \"name\": \"a\"}",
		   message);
	refused("{\"fsLayers\": []}", message);
	refused("{\"schemaVersion\": 3}", "manifest X has schemaVersion 3, expected 2");
	refused("{\"schemaVersion\": \"2\"}", "manifest X: schemaVersion is not a whole number");
}

static void artifacts_are_refused_by_name(void **state)
{
	refused("{" CONFIG ", \"layers\": [" LAYER("11") "," DESC(
			"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "12", "") "]}",
		"manifest X: layers[1] is of type application/vnd.cncf.helm.chart.content.v1."
		"tar+gzip: this is an artifact, not a container image");
	refused("{\"config\": " DESC("application/vnd.oci.empty.v1+json", "10",
				     "") ", \"layers\": [" LAYER("11") "]}",
		"manifest X: config is of type application/vnd.oci.empty.v1+json: this is an "
		"artifact, not a container image");
	refused_as("application/vnd.oci.artifact.manifest.v1+json", "{\"blobs\": []}",
		   "manifest X is of type application/vnd.oci.artifact.manifest.v1+json, not a "
		   "container image");
	refused_as("text/html", "{}", "manifest X is of type text/html, not a container image");
}

static void wrong_manifests_are_refused(void **state)
{
	refused("[]", "manifest X is not a JSON object");
	refused("{}", "manifest X has no config");
	refused("{" CONFIG "}", "manifest X has no list of layers");
	refused("{" CONFIG ", \"layers\": {}}", "manifest X has no list of layers");
	refused("{" CONFIG ", \"layers\": [7]}",
		"manifest X: layers[0] is not a descriptor (a JSON object)");
	refused("{\"config\": 7, \"layers\": []}",
		"manifest X: config is not a descriptor (a JSON object)");
	refused("{" CONFIG ", \"layers\": [" LAYER_OF("", "-1") "]}",
		"manifest X: layers[0]: size -1 is negative");
	refused("{" CONFIG ", \"layers\": [{\"mediaType\": \"" OCI "layer.v1.tar\", \"size\": 1,"
		"\"digest\": \"md5:0\"}]}",
		"manifest X: layers[0]: 'md5:0' is not a digest of the form "
		"sha256:<64 lower-case hex>");
}

static void layers_are_limited(void **state)
{
	struct manifest_doc d;
	struct err e = ERR_INIT;

	for (size_t n = LIMIT_LAYERS; n <= LIMIT_LAYERS + 1; n++) {
		_cleanup_buf_ struct buf b;
		int r;

		buf_init(&b, 1 << 20);
		buf_put_str(&b, "{" CONFIG ", \"layers\": [");
		for (size_t i = 0; i < n; i++)
			buf_printf(&b, "%s%s", i ? "," : "", LAYER("11"));
		buf_put_str(&b, "]}");
		r = parse_as(NULL, buf_cstr(&b), &amd64, &d, &e);
		assert_int_equal(r, n > LIMIT_LAYERS ? -EINVAL : 0);
		assert_int_equal(d.manifest.nlayers, LIMIT_LAYERS);
	}
	assert_string_equal(e.text, "manifest X has 129 layers, more than the 128 we take");
}

static void size_and_depth_are_limited(void **state)
{
	size_t len = 5 << 20;
	_cleanup_free_ char *text = malloc(len);
	struct manifest_doc d;
	struct err e = ERR_INIT;

	assert_non_null(text);
	memset(text, ' ', len);
	assert_int_equal(manifest_parse(text, len, NULL, "manifest X", &amd64, &d, &e), -EFBIG);
	assert_string_equal(e.text, "manifest X: 5242880 bytes are more than the limit of 4194304");
	memset(text, '[', 50);
	memset(text + 50, ']', 50);
	assert_int_equal(manifest_parse(text, 100, NULL, "manifest X", &amd64, &d, &e), -EINVAL);
	assert_memory_equal(e.text, "manifest X: bad JSON", 20);
	assert_int_equal(manifest_parse("", 0, NULL, "manifest X", &amd64, &d, &e), -EINVAL);
	assert_memory_equal(e.text, "manifest X: bad JSON", 20);
}

static void the_platform_is_chosen(void **state)
{
	static const char *const entries[] = {
		ENTRY("21", FOR("windows", "amd64", "")),
		ENTRY("22", FOR("linux", "arm", "v6")),
		ENTRY("23", FOR("linux", "arm", "v7")),
		ENTRY("24", FOR("linux", "arm64", "v8")),
		ENTRY("25", FOR("linux", "amd64", "")),
		ENTRY("26", FOR("linux", "amd64", "")),
		NULL,
	};

	assert_int_equal(chosen(entries, "linux/amd64"), 0x25);
	assert_int_equal(chosen(entries, "linux/amd64/v1"), 0x25);
	assert_int_equal(chosen(entries, "windows/amd64"), 0x21);
	assert_int_equal(chosen(entries, "linux/arm64"), 0x24);
	assert_int_equal(chosen(entries, "linux/arm64/v8"), 0x24);
	assert_int_equal(chosen(entries, "linux/arm"), 0x23);
	assert_int_equal(chosen(entries, "linux/arm/v6"), 0x22);
	not_chosen(entries, "linux/arm/v5", -ENOENT,
		   "manifest X has no image for linux/arm/v5; it has windows/amd64, "
		   "linux/arm/v6, linux/arm/v7, linux/arm64/v8, linux/amd64, linux/amd64");
}

static void the_least_demanding_variant_goes_first(void **state)
{
	static const char *const both[] = {
		ENTRY("21", FOR("linux", "amd64", "v3")),
		ENTRY("22", FOR("linux", "amd64", "")),
		NULL,
	};
	static const char *const one[] = {ENTRY("23", FOR("linux", "amd64", "v3")), NULL};

	assert_int_equal(chosen(both, "linux/amd64"), 0x22);
	assert_int_equal(chosen(both, "linux/amd64/v3"), 0x21);
	assert_int_equal(chosen(one, "linux/amd64"), 0x23);
}

static void a_missing_variant_means_the_base_one(void **state)
{
	static const char *const entries[] = {
		ENTRY("21", FOR("linux", "arm64", "")),
		ENTRY("22", FOR("linux", "arm", "")),
		ENTRY("23", FOR("linux", "amd64", "")),
		ENTRY("24", FOR("linux", "riscv64", "")),
		NULL,
	};

	assert_int_equal(chosen(entries, "linux/arm64/v8"), 0x21);
	assert_int_equal(chosen(entries, "linux/arm/v7"), 0x22);
	assert_int_equal(chosen(entries, "linux/amd64/v1"), 0x23);
	assert_int_equal(chosen(entries, "linux/riscv64"), 0x24);
	not_chosen(entries, "linux/arm64/v9", -ENOENT,
		   "manifest X has no image for linux/arm64/v9; it has linux/arm64, linux/arm, "
		   "linux/amd64, linux/riscv64");
}

static void an_entry_without_a_platform_is_the_last_resort(void **state)
{
	static const char *const entries[] = {
		ENTRY("20", "\"artifactType\": \"x/signature\""),
		ENTRY("21", NO_PLATFORM),
		ENTRY("22", FOR("linux", "amd64", "")),
		NULL,
	};

	assert_int_equal(chosen(entries, "linux/amd64"), 0x22);
	assert_int_equal(chosen(entries, "linux/arm64"), 0x21);
}

static void an_index_may_lead_to_another(void **state)
{
	static const char *const entries[] = {DESC(OCI "index.v1+json", "21", ""), NULL};
	struct descriptor d;

	assert_int_equal(choose(entries, "linux/amd64", &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_INDEX);
}

static void what_is_no_tar_image_is_not_chosen(void **state)
{
	static const char *const entries[] = {
		ENTRY("21", "\"platform\": {\"os\": \"linux\", \"architecture\": \"amd64\","
			    "\"os.features\": [\"erofs\"]}"),
		ENTRY("22", FOR("unknown", "unknown", "")),
		DESC("application/x-thing", "23", "," FOR("linux", "amd64", "")),
		NULL,
	};
	static const char *const none[] = {NULL};

	not_chosen(entries, "linux/amd64", -ENOENT,
		   "manifest X has no image for linux/amd64; it has linux/amd64, linux/amd64");
	not_chosen(none, "linux/amd64", -ENOENT, "manifest X has no image for linux/amd64");
}

static void a_bad_entry_counts_when_it_is_chosen(void **state)
{
	static const char *const entries[] = {
		"7",
		"{\"mediaType\": \"" OCI "manifest.v1+json\"," FOR("linux", "amd64", "") "}",
		NULL,
	};

	not_chosen(entries, "linux/amd64", -EINVAL, "manifest X: manifests[1] has no digest");
}

static void a_layout_entry_is_found_by_name(void **state)
{
	static const char *const entries[] = {
		ENTRY("21", NAMED("v1")),
		ENTRY("22", NAMED("v2")),
		ENTRY("23", "\"annotations\": {\"io.containerd.image.name\": \"r.io/x:v3\","
			    "\"org.opencontainers.image.ref.name\": \"v3\"}"),
		NULL,
	};

	assert_int_equal(found(entries, "v1"), 0x21);
	assert_int_equal(found(entries, "v2"), 0x22);
	assert_int_equal(found(entries, "v3"), 0x23);
	assert_int_equal(found(entries, "r.io/x:v3"), 0x23);
	not_found(entries, "v4", -ENOENT, "index.json has no image 'v4'; it has v1, v2, v3");
	not_found(entries, NULL, -EINVAL, "index.json has 3 images, name one of them: v1, v2, v3");
}

static void the_only_entry_needs_no_name(void **state)
{
	static const char *const named[] = {ENTRY("21", NAMED("v1")), NULL};
	static const char *const nameless[] = {ENTRY("22", NO_PLATFORM), NULL};
	static const char *const foreign[] = {ENTRY("21", FOR("linux", "arm64", "")), NULL};
	static const char *const none[] = {NULL};

	assert_int_equal(found(named, NULL), 0x21);
	assert_int_equal(found(nameless, NULL), 0x22);
	not_found(foreign, NULL, -ENOENT,
		  "index.json has no image for linux/amd64; it has linux/arm64");
	not_found(none, NULL, -ENOENT, "index.json lists no image");
	not_found(none, "v1", -ENOENT, "index.json lists no image");
}

static void one_name_may_have_many_platforms(void **state)
{
	static const char *const entries[] = {
		ENTRY("21", NAMED("v1") "," FOR("linux", "arm64", "")),
		ENTRY("22", NAMED("v1") "," FOR("linux", "amd64", "")),
		ENTRY("23", NAMED("v2") "," FOR("linux", "arm64", "")),
		NULL,
	};

	assert_int_equal(found(entries, "v1"), 0x22);
	not_found(entries, "v2", -ENOENT,
		  "index.json has no image for linux/amd64; it has linux/arm64");
}

static void an_index_without_entries_is_refused(void **state)
{
	struct descriptor d;
	struct err e = ERR_INIT;

	assert_int_equal(layout_index_find("{}", 2, NULL, "index.json", &amd64, &d, &e), -EINVAL);
	assert_string_equal(e.text, "index.json has no list of manifests");
}

static void a_long_list_of_names_is_cut(void **state)
{
	_cleanup_buf_ struct buf b;
	struct descriptor d;
	struct err e = ERR_INIT;

	buf_init(&b, 1 << 20);
	buf_put_str(&b, "{\"manifests\": [");
	for (size_t i = 0; i < 1000; i++)
		buf_printf(&b, "%s{\"annotations\": {\"io.containerd.image.name\": \"image-%zu\"}}",
			   i ? "," : "", i);
	buf_put_str(&b, "]}");
	assert_int_equal(layout_index_find(b.data, b.len, NULL, "index.json", &amd64, &d, &e),
			 -EINVAL);
	assert_memory_equal(e.text,
			    "index.json has 1000 images, name one of them: image-0, image-1, ", 64);
	assert_string_equal(strrchr(e.text, ','), ", …");
}

static void layout_versions(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{"{}", "oci-layout has no imageLayoutVersion"},
		{"{\"imageLayoutVersion\": 1}", "oci-layout has no imageLayoutVersion"},
		{"{\"imageLayoutVersion\": \"2.0.0\"}",
		 "oci-layout is of image layout version 2.0.0, expected 1.x"},
		{"{\"imageLayoutVersion\": \"10.0\"}",
		 "oci-layout is of image layout version 10.0, expected 1.x"},
		{"\"1.0.0\"", "oci-layout is not a JSON object"},
	};
	const char *good = "{\"imageLayoutVersion\": \"1.0.0\"}";

	assert_int_equal(layout_version_check(good, strlen(good), "oci-layout", NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		assert_int_equal(
			layout_version_check(bad[i].text, strlen(bad[i].text), "oci-layout", &e),
			-EINVAL);
		assert_string_equal(e.text, bad[i].message);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(platforms_are_read),
		cmocka_unit_test(wrong_platforms_are_refused),
		cmocka_unit_test(this_machine_has_a_platform),
		cmocka_unit_test(an_image_manifest_is_read),
		cmocka_unit_test(a_docker_manifest_is_read),
		cmocka_unit_test(the_kind_is_seen_without_a_media_type),
		cmocka_unit_test(contradicting_types_are_refused),
		cmocka_unit_test(schema_1_is_refused),
		cmocka_unit_test(artifacts_are_refused_by_name),
		cmocka_unit_test(wrong_manifests_are_refused),
		cmocka_unit_test(layers_are_limited),
		cmocka_unit_test(size_and_depth_are_limited),
		cmocka_unit_test(the_platform_is_chosen),
		cmocka_unit_test(the_least_demanding_variant_goes_first),
		cmocka_unit_test(a_missing_variant_means_the_base_one),
		cmocka_unit_test(an_entry_without_a_platform_is_the_last_resort),
		cmocka_unit_test(an_index_may_lead_to_another),
		cmocka_unit_test(what_is_no_tar_image_is_not_chosen),
		cmocka_unit_test(a_bad_entry_counts_when_it_is_chosen),
		cmocka_unit_test(a_layout_entry_is_found_by_name),
		cmocka_unit_test(the_only_entry_needs_no_name),
		cmocka_unit_test(one_name_may_have_many_platforms),
		cmocka_unit_test(an_index_without_entries_is_refused),
		cmocka_unit_test(a_long_list_of_names_is_cut),
		cmocka_unit_test(layout_versions),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
