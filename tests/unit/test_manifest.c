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

/* A descriptor whose digest ends in the two digits @n, with more members in @more. */
#define DESC(type, n, more)                                                                        \
	"{\"mediaType\": \"" type "\", \"size\": " n ", \"digest\": \"sha256:"                     \
	"000000000000000000000000000000000000000000000000000000000000"                             \
	"00" n "\"" more "}"
#define LAYER(n)       DESC(OCI "layer.v1.tar+gzip", n, "")
#define CONFIG         "\"config\": " DESC(OCI "config.v1+json", "10", "")
#define ENTRY(n, more) DESC(OCI "manifest.v1+json", n, "," more)
#define FOR(os, arch, more)                                                                        \
	"\"platform\": {\"os\": \"" os "\", \"architecture\": \"" arch "\"" more "}"
#define NAMED(name)    "\"annotations\": {\"org.opencontainers.image.ref.name\": \"" name "\"}"
#define INDEX(entries) "{\"schemaVersion\": 2, \"manifests\": [" entries "]}"

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

/* The last byte of the digest of what is chosen, or fails with the message. */
static int chosen(const char *text, const char *platform)
{
	struct platform want;
	struct manifest_doc d;
	struct err e = ERR_INIT;

	assert_int_equal(platform_parse(platform, &want, NULL), 0);
	if (parse_as(NULL, text, &want, &d, &e) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(d.media, MEDIA_INDEX);
	return d.chosen.digest.sum[DIGEST_SIZE - 1];
}

static void none_chosen(const char *text, const char *platform, const char *message)
{
	struct platform want;
	struct manifest_doc d;
	struct err e = ERR_INIT;

	assert_int_equal(platform_parse(platform, &want, NULL), 0);
	assert_int_equal(parse_as(NULL, text, &want, &d, &e), -ENOENT);
	assert_string_equal(e.text, message);
}

static int found(const char *text, const char *ref)
{
	struct descriptor d;
	struct err e = ERR_INIT;

	if (layout_index_find(text, strlen(text), ref, "index.json", &amd64, &d, &e) < 0)
		fail_msg("%s", e.text);
	return d.digest.sum[DIGEST_SIZE - 1];
}

static void not_found(const char *text, const char *ref, int code, const char *message)
{
	struct descriptor d = {.size = 77};
	struct err e = ERR_INIT;

	assert_int_equal(layout_index_find(text, strlen(text), ref, "index.json", &amd64, &d, &e),
			 code);
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
	struct manifest_doc d;

	assert_int_equal(parse_as(OCI "manifest.v1+json; charset=utf-8",
				  "{\"schemaVersion\": 2, \"mediaType\": \"" OCI
				  "manifest.v1+json\"," CONFIG
				  ", \"layers\": [" LAYER("11") "," DESC(
					  OCI "layer.v1.tar", "12",
					  "") "," DESC(OCI "layer.v1.tar+zstd", "13", "") "]}",
				  &amd64, &d, NULL),
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

static void the_kind_is_seen_without_a_media_type(void **state)
{
	struct manifest_doc d;
	const char *manifest = "{" CONFIG ", \"layers\": []}";
	const char *index = INDEX(ENTRY("21", FOR("linux", "amd64", "")));

	assert_int_equal(parse_as(NULL, manifest, &amd64, &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_MANIFEST);
	assert_int_equal(parse_as("application/json", index, &amd64, &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_INDEX);
	assert_int_equal(parse_as("", index, &amd64, &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_INDEX);
}

static void contradicting_types_are_refused(void **state)
{
	const char *index = INDEX(ENTRY("21", FOR("linux", "amd64", "")));

	refused_as(DOCKER "manifest.v2+json",
		   "{\"mediaType\": \"" OCI "manifest.v1+json\"," CONFIG ", \"layers\": []}",
		   "manifest X calls itself " OCI "manifest.v1+json but was sent as " DOCKER
		   "manifest.v2+json");
	refused_as(OCI "manifest.v1+json", index, "manifest X has no config");
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
	refused("{" CONFIG ", \"layers\": [" DESC(OCI "layer.v1.tar", "-1", "") "]}",
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
	const char *index = INDEX(
		ENTRY("21", FOR("windows", "amd64", "")) "," ENTRY("22", FOR("linux", "arm", ", \"variant\": \"v6\"")) "," ENTRY(
			"23",
			FOR(
				"linux", "arm",
				", \"variant\": \"v7\"")) "," ENTRY("24",
								    FOR(
									    "linux",
									    "arm64",
									    ", \"variant\": "
									    "\"v8\"")) "," ENTRY("2"
												 "5",
												 FOR("linux",
												     "amd64",
												     "")) "," ENTRY("26",
														    FOR("linux",
															"amd64",
															"")));

	assert_int_equal(chosen(index, "linux/amd64"), 0x25);
	assert_int_equal(chosen(index, "linux/amd64/v1"), 0x25);
	assert_int_equal(chosen(index, "windows/amd64"), 0x21);
	assert_int_equal(chosen(index, "linux/arm64"), 0x24);
	assert_int_equal(chosen(index, "linux/arm64/v8"), 0x24);
	assert_int_equal(chosen(index, "linux/arm"), 0x23);
	assert_int_equal(chosen(index, "linux/arm/v6"), 0x22);
	none_chosen(index, "linux/arm/v5",
		    "manifest X has no image for linux/arm/v5; it has windows/amd64, "
		    "linux/arm/v6, linux/arm/v7, linux/arm64/v8, linux/amd64, linux/amd64");
}

static void an_undemanding_variant_goes_first(void **state)
{
	const char *index =
		INDEX(ENTRY("21", FOR("linux", "amd64", ", \"variant\": \"v3\"")) "," ENTRY(
			"22", FOR("linux", "amd64", "")));
	const char *only = INDEX(ENTRY("23", FOR("linux", "amd64", ", \"variant\": \"v3\"")));

	assert_int_equal(chosen(index, "linux/amd64"), 0x22);
	assert_int_equal(chosen(index, "linux/amd64/v3"), 0x21);
	assert_int_equal(chosen(only, "linux/amd64"), 0x23);
}

static void an_entry_without_a_platform_is_the_last_resort(void **state)
{
	const char *index = INDEX(ENTRY("20", "\"artifactType\": \"x/signature\"") "," ENTRY(
		"21", "\"annotations\": {}") "," ENTRY("22", FOR("linux", "amd64", "")));

	assert_int_equal(chosen(index, "linux/amd64"), 0x22);
	assert_int_equal(chosen(index, "linux/arm64"), 0x21);
}

static void an_index_may_lead_to_another(void **state)
{
	struct manifest_doc d;

	assert_int_equal(
		parse_as(NULL, INDEX(DESC(OCI "index.v1+json", "21", "")), &amd64, &d, NULL), 0);
	assert_int_equal(d.chosen.media, MEDIA_INDEX);
}

static void what_is_no_tar_image_is_not_chosen(void **state)
{
	none_chosen(
		INDEX(ENTRY("21", FOR("linux", "amd64", ", \"os.features\": [\"erofs\"]")) "," ENTRY(
			"22",
			FOR("unknown", "unknown", "")) "," DESC("application/x-thing", "23",
								"," FOR("linux", "amd64", ""))),
		"linux/amd64",
		"manifest X has no image for linux/amd64; it has linux/amd64, linux/amd64");
	none_chosen(INDEX(""), "linux/amd64", "manifest X has no image for linux/amd64");
}

static void a_bad_entry_counts_when_it_is_chosen(void **state)
{
	refused(INDEX("7, {\"mediaType\": \"" OCI
		      "manifest.v1+json\"," FOR("linux", "amd64", "") "}"),
		"manifest X: manifests[1] has no digest");
}

static void a_layout_entry_is_found_by_name(void **state)
{
	const char *index = INDEX(ENTRY("21", NAMED("v1")) "," ENTRY("22", NAMED("v2")) "," ENTRY(
		"23", "\"annotations\": {\"io.containerd.image.name\": \"r.io/x:v3\","
		      "\"org.opencontainers.image.ref.name\": \"v3\"}"));

	assert_int_equal(found(index, "v1"), 0x21);
	assert_int_equal(found(index, "v2"), 0x22);
	assert_int_equal(found(index, "v3"), 0x23);
	assert_int_equal(found(index, "r.io/x:v3"), 0x23);
	not_found(index, "v4", -ENOENT, "index.json has no image 'v4'; it has v1, v2, v3");
	not_found(index, NULL, -EINVAL, "index.json has 3 images, name one of them: v1, v2, v3");
}

static void the_only_entry_needs_no_name(void **state)
{
	assert_int_equal(found(INDEX(ENTRY("21", NAMED("v1"))), NULL), 0x21);
	assert_int_equal(found(INDEX(ENTRY("22", "\"annotations\": {}")), NULL), 0x22);
	not_found(INDEX(""), NULL, -ENOENT, "index.json lists no image");
	not_found(INDEX(ENTRY("21", FOR("linux", "arm64", ""))), NULL, -ENOENT,
		  "index.json has no image for linux/amd64; it has linux/arm64");
	not_found("{\"schemaVersion\": 2}", NULL, -EINVAL, "index.json has no list of manifests");
}

static void one_name_may_have_many_platforms(void **state)
{
	const char *index = INDEX(ENTRY("21", NAMED("v1") "," FOR("linux", "arm64", "")) "," ENTRY(
		"22", NAMED("v1") "," FOR("linux", "amd64",
					  "")) "," ENTRY("23", NAMED("v2") "," FOR("linux", "arm64",
										   "")));

	assert_int_equal(found(index, "v1"), 0x22);
	not_found(index, "v2", -ENOENT,
		  "index.json has no image for linux/amd64; it has linux/arm64");
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
		cmocka_unit_test(an_undemanding_variant_goes_first),
		cmocka_unit_test(an_entry_without_a_platform_is_the_last_resort),
		cmocka_unit_test(an_index_may_lead_to_another),
		cmocka_unit_test(what_is_no_tar_image_is_not_chosen),
		cmocka_unit_test(a_bad_entry_counts_when_it_is_chosen),
		cmocka_unit_test(a_layout_entry_is_found_by_name),
		cmocka_unit_test(the_only_entry_needs_no_name),
		cmocka_unit_test(one_name_may_have_many_platforms),
		cmocka_unit_test(a_long_list_of_names_is_cut),
		cmocka_unit_test(layout_versions),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
