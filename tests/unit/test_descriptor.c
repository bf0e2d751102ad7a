/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/descriptor.h"

#define SUM    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define DIGEST "\"digest\": \"sha256:" SUM "\""
#define TYPE   "\"mediaType\": \"application/vnd.oci.image.layer.v1.tar\""

static int parse(const char *text, struct descriptor *ret, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;

	assert_int_equal(json_parse(text, strlen(text), 1 << 20, "text", &doc, NULL), 0);
	return descriptor_parse(doc, "thing", ret, e);
}

static void refused(const char *text, const char *message)
{
	struct descriptor d = {.size = 77};
	struct err e = ERR_INIT;

	assert_int_equal(parse(text, &d, &e), -EINVAL);
	assert_string_equal(e.text, message);
	assert_int_equal(d.size, 77);
}

static void media_types_of_both_worlds_are_known(void **state)
{
	static const struct {
		enum media media;
		const char *name;
	} cases[] = {
		{MEDIA_INDEX, "application/vnd.oci.image.index.v1+json"},
		{MEDIA_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"},
		{MEDIA_MANIFEST, "application/vnd.oci.image.manifest.v1+json"},
		{MEDIA_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"},
		{MEDIA_CONFIG, "application/vnd.oci.image.config.v1+json"},
		{MEDIA_CONFIG, "application/vnd.docker.container.image.v1+json"},
		{MEDIA_LAYER_TAR, "application/vnd.oci.image.layer.v1.tar"},
		{MEDIA_LAYER_TAR, "application/vnd.docker.image.rootfs.diff.tar"},
		{MEDIA_LAYER_GZIP, "application/vnd.oci.image.layer.v1.tar+gzip"},
		{MEDIA_LAYER_GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip"},
		{MEDIA_LAYER_GZIP, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"},
		{MEDIA_LAYER_GZIP, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"},
		{MEDIA_LAYER_ZSTD, "application/vnd.oci.image.layer.v1.tar+zstd"},
		{MEDIA_LAYER_ZSTD, "application/vnd.docker.image.rootfs.diff.tar.zstd"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(media_of(cases[i].name), cases[i].media);
}

static void media_type_parameters_and_case_do_not_count(void **state)
{
	assert_int_equal(media_of("application/vnd.oci.image.index.v1+json; charset=utf-8"),
			 MEDIA_INDEX);
	assert_int_equal(media_of("application/vnd.oci.image.index.v1+json ;x=y"), MEDIA_INDEX);
	assert_int_equal(media_of("Application/VND.oci.image.INDEX.v1+json"), MEDIA_INDEX);
}

static void other_media_types_are_unknown(void **state)
{
	assert_int_equal(media_of(NULL), MEDIA_UNKNOWN);
	assert_int_equal(media_of(""), MEDIA_UNKNOWN);
	assert_int_equal(media_of(";"), MEDIA_UNKNOWN);
	assert_int_equal(media_of("application/vnd.oci.image.index.v1"), MEDIA_UNKNOWN);
	assert_int_equal(media_of("application/vnd.oci.image.index.v1+jsonx"), MEDIA_UNKNOWN);
	assert_int_equal(media_of("application/vnd.oci.empty.v1+json"), MEDIA_UNKNOWN);
}

static void every_media_has_its_oci_name(void **state)
{
	for (int m = MEDIA_UNKNOWN + 1; m < MEDIA_COUNT; m++) {
		assert_int_equal(media_of(media_name(m)), m);
		assert_non_null(strstr(media_name(m), "vnd.oci."));
	}
	assert_string_equal(media_name(MEDIA_UNKNOWN), "unknown");
}

static void a_descriptor_is_read(void **state)
{
	struct descriptor d;
	struct digest sum;

	assert_int_equal(parse("{" TYPE "," DIGEST ", \"size\": 9223372036854775807}", &d, NULL),
			 0);
	assert_int_equal(digest_of("", 0, &sum), 0);
	assert_int_equal(d.media, MEDIA_LAYER_TAR);
	assert_true(digest_equal(&d.digest, &sum));
	assert_int_equal(d.size, INT64_MAX);
}

static void an_unknown_type_is_left_to_the_caller(void **state)
{
	struct descriptor d;

	assert_int_equal(parse("{\"mediaType\": \"x/y\"," DIGEST ", \"size\": 0}", &d, NULL), 0);
	assert_int_equal(d.media, MEDIA_UNKNOWN);
	assert_int_equal(d.size, 0);
}

static void wrong_descriptors_are_refused(void **state)
{
	refused("[]", "thing is not a descriptor (a JSON object)");
	refused("{" DIGEST ", \"size\": 1}", "thing has no mediaType");
	refused("{" TYPE ", \"size\": 1}", "thing has no digest");
	refused("{" TYPE "," DIGEST "}", "thing has no size (a whole number)");
	refused("{" TYPE "," DIGEST ", \"size\": \"1\"}", "thing has no size (a whole number)");
	refused("{" TYPE "," DIGEST ", \"size\": 1.5}", "thing has no size (a whole number)");
	refused("{" TYPE "," DIGEST ", \"size\": 9223372036854775808}",
		"thing has no size (a whole number)");
	refused("{" TYPE "," DIGEST ", \"size\": -5}", "thing: size -5 is negative");
}

static void wrong_digests_are_refused(void **state)
{
	static const char *const digests[] = {"",  "sha256:12",       "sha512:" SUM,
					      SUM, "sha256:" SUM "0", "SHA256:" SUM};
	char text[300], message[300];

	for (size_t i = 0; i < ARRAY_LEN(digests); i++) {
		snprintf(text, sizeof(text), "{" TYPE ", \"digest\": \"%s\", \"size\": 1}",
			 digests[i]);
		snprintf(message, sizeof(message),
			 "thing: '%s' is not a digest of the form sha256:<64 lower-case hex>",
			 digests[i]);
		refused(text, message);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(media_types_of_both_worlds_are_known),
		cmocka_unit_test(media_type_parameters_and_case_do_not_count),
		cmocka_unit_test(other_media_types_are_unknown),
		cmocka_unit_test(every_media_has_its_oci_name),
		cmocka_unit_test(a_descriptor_is_read),
		cmocka_unit_test(an_unknown_type_is_left_to_the_caller),
		cmocka_unit_test(wrong_descriptors_are_refused),
		cmocka_unit_test(wrong_digests_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
