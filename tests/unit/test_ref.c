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
#include "oci/ref.h"

#define SUM "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct ref parse(const char *text)
{
	struct err e = ERR_INIT;
	struct ref r;

	if (ref_parse(text, &r, &e) < 0)
		fail_msg("%s", e.text);
	return r;
}

/* Refused with a message that names the text and holds @why; the result is left alone. */
static void refused(const char *text, const char *why)
{
	struct ref r = {.tag = "untouched"};
	struct err e = ERR_INIT;
	char named[64];

	assert_int_equal(ref_parse(text, &r, &e), -EINVAL);
	assert_string_equal(r.tag, "untouched");
	snprintf(named, sizeof(named), "'%.50s", text);
	if (!strstr(e.text, named) || !strstr(e.text, why) || strchr(e.text, '\n'))
		fail_msg("'%s' does not hold '%s' and '%s'", e.text, named, why);
}

static void assert_name(const char *text, const char *name)
{
	struct ref r = parse(text);
	char out[LIMIT_REF];

	ref_default_name(&r, out);
	assert_string_equal(out, name);
	assert_true(ref_name_valid(out));
}

static void assert_registry(const char *text, const char *host, const char *repo, const char *tag)
{
	struct ref r = parse(text);

	assert_int_equal(r.kind, REF_REGISTRY);
	assert_string_equal(r.host, host);
	assert_string_equal(r.repo, repo);
	assert_string_equal(r.tag, tag);
	assert_string_equal(r.dir, "");
}

static void assert_layout(const char *text, const char *dir, const char *tag)
{
	struct ref r = parse(text);

	assert_int_equal(r.kind, REF_LAYOUT);
	assert_string_equal(r.dir, dir);
	assert_string_equal(r.tag, tag);
	assert_string_equal(r.host, "");
	assert_false(r.has_digest);
}

static void layouts(void **state)
{
	assert_layout("oci:/var/x", "/var/x", "");
	assert_layout("oci:x:v1", "x", "v1");
	assert_layout("oci:../x/:docker.io/library/y:latest", "../x/",
		      "docker.io/library/y:latest");
	assert_layout("oci:/a b/é", "/a b/é", "");
}

static void registries(void **state)
{
	assert_registry("docker://r.example/a/b:v1", "r.example", "a/b", "v1");
	assert_registry("r.example/a/b", "r.example", "a/b", "latest");
	assert_registry("R.Example:5000/a", "r.example:5000", "a", "latest");
	assert_registry("localhost/a", "localhost", "a", "latest");
	assert_registry("[2001:db8::1]:443/a:T_.-9", "[2001:db8::1]:443", "a", "T_.-9");
	assert_registry("[::1]/a", "[::1]", "a", "latest");
	assert_registry("r.example/a.b_c__d--e---f/0", "r.example", "a.b_c__d--e---f/0", "latest");
}

static void docker_hub(void **state)
{
	assert_registry("docker.io/alpine:3", "registry-1.docker.io", "library/alpine", "3");
	assert_registry("docker://docker.io/u/x", "registry-1.docker.io", "u/x", "latest");
	assert_registry("index.docker.io/x", "registry-1.docker.io", "library/x", "latest");
	assert_registry("registry-1.docker.io/x", "registry-1.docker.io", "library/x", "latest");
}

static void digests(void **state)
{
	struct digest sum;
	struct ref r;

	assert_int_equal(digest_of("", 0, &sum), 0);
	r = parse("r.example/a@sha256:" SUM);
	assert_true(r.has_digest);
	assert_true(digest_equal(&r.digest, &sum));
	assert_string_equal(r.tag, "");
	r = parse("r.example:1/a:v1@sha256:" SUM);
	assert_true(r.has_digest);
	assert_string_equal(r.tag, "v1");
	assert_false(parse("r.example/a:v1").has_digest);
}

static void plain_http_only_on_loopback(void **state)
{
	assert_true(parse("localhost:5000/a").plain_http);
	assert_true(parse("127.0.0.1:5000/a").plain_http);
	assert_true(parse("[::1]:5000/a").plain_http);
	assert_false(parse("r.example/a").plain_http);
	assert_false(parse("127.0.0.1.example/a").plain_http);
}

static void loopback_hosts(void **state)
{
	static const char *const yes[] = {"localhost", "LocalHost:80", "127.0.0.1", "127.255.0.9:1",
					  "[::1]",     "[::1]:65535",  "[0:0::1]"};
	static const char *const no[] = {"",
					 "localhost.example",
					 "127.0.0.1.example",
					 "127.1",
					 "128.0.0.1",
					 "::1",
					 "[::2]",
					 "[::1",
					 "localhost:0",
					 "localhost:x",
					 "127.0.0.1@example",
					 "10.0.0.1"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!ref_host_is_loopback(yes[i]))
			fail_msg("%s is loopback", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (ref_host_is_loopback(no[i]))
			fail_msg("%s is not loopback", no[i]);
}

static void texts_that_name_no_image(void **state)
{
	static const char forms[] = "expected oci:DIR[:REF], docker://HOST[:PORT]/REPO";

	refused("", forms);
	refused("alpine", forms);
	refused("alpine:3", forms);
	refused("library/alpine", "images of Docker Hub: docker.io/NAME");
	refused("docker://alpine", forms);
	refused("https://r.example/a", forms);
	refused("docker://https://r.example/a", forms);
	refused("/var/lib/x", forms);
	refused("./x.y/z", forms);
	refused("../x.y/z", forms);
	refused("dir:/x", forms);
}

static void wrong_layouts(void **state)
{
	refused("oci:", "names no directory");
	refused("oci::v1", "names no directory");
	refused("oci:x:", "must have 1 to 255 bytes");
}

static void wrong_hosts(void **state)
{
	static const char why[] = "is not a host name with a port or without";

	refused("r.example:/a", why);
	refused("r.example:0/a", why);
	refused("r.example:65536/a", why);
	refused("r.example:80x/a", why);
	refused("u@r.example/a", why);
	refused(".example/a", why);
	refused("[::1/a", why);
	refused("[::g]/a", why);
	refused("[::1]x/a", why);
	refused("r.exämple/a", why);
}

static void wrong_names(void **state)
{
	static const char why[] = "is not a repository name";

	refused("r.example/", why);
	refused("r.example//a", why);
	refused("r.example/a/", why);
	refused("r.example/A", "lower-case");
	refused("r.example/a..b", why);
	refused("r.example/a___b", why);
	refused("r.example/a._b", why);
	refused("r.example/-a", why);
	refused("r.example/a-", why);
	refused("r.example/a/../b", why);
	refused("r.example/a?x=y", why);
}

static void wrong_versions(void **state)
{
	refused("r.example/a:", "is not a tag");
	refused("r.example/a:.x", "is not a tag");
	refused("r.example/a:-x", "is not a tag");
	refused("r.example/a:x:y", "is not a tag");
	refused("r.example/a:x/y", "is not a tag");
	refused("r.example/a@", "is not a digest");
	refused("r.example/a@sha256:12", "is not a digest");
	refused("r.example/a@sha512:" SUM SUM, "is not a digest");
	refused("r.example/a@sha256:" SUM ":x", "is not a digest");
}

static void a_message_is_one_line(void **state)
{
	struct err e = ERR_INIT;
	struct ref r;

	assert_int_equal(ref_parse("r.example/a\nb", &r, &e), -EINVAL);
	assert_null(strchr(e.text, '\n'));
}

/* "PREFIX" and then @n times 'a'. */
static const char *long_text(char *out, const char *prefix, size_t n)
{
	size_t len = strlen(prefix);

	memcpy(out, prefix, len);
	memset(out + len, 'a', n);
	out[len + n] = '\0';
	return out;
}

static void lengths(void **state)
{
	char text[LIMIT_PATH + 64];
	struct ref r;

	r = parse(long_text(text, "oci:", LIMIT_PATH - 1));
	assert_int_equal(strlen(r.dir), LIMIT_PATH - 1);
	refused(long_text(text, "oci:", LIMIT_PATH), "longer than 4095 bytes");
	r = parse(long_text(text, "oci:x:", LIMIT_NAME - 1));
	assert_int_equal(strlen(r.tag), LIMIT_NAME - 1);
	refused(long_text(text, "oci:x:", LIMIT_NAME), "must have 1 to 255 bytes");
	r = parse(long_text(text, "r.example/a:", 128));
	assert_int_equal(strlen(r.tag), 128);
	refused(long_text(text, "r.example/a:", 129), "is not a tag");
	/* 255 bytes for "host/name", also with what Docker Hub adds to it. */
	r = parse(long_text(text, "r.example/", 245));
	assert_int_equal(strlen(r.repo), 245);
	refused(long_text(text, "r.example/", 246), "longer than 255 bytes");
	r = parse(long_text(text, "docker.io/", 226));
	assert_int_equal(strlen(r.repo), 234);
	refused(long_text(text, "docker.io/", 227), "longer than 255 bytes");
	refused(long_text(text, "r.", 4100), "names no registry host");
	snprintf(text, sizeof(text), "r.%04000d/x", 0);
	refused(text, "is not a host name");
}

static void default_names(void **state)
{
	assert_name("oci:/var/images/busybox", "busybox");
	assert_name("oci:/var/images/busybox/:v1", "busybox:v1");
	assert_name("oci:.", "layout");
	assert_name("oci:..:v1", "layout:v1");
	assert_name("oci:/", "layout");
	assert_name("oci:a/..", "layout");
	assert_name("oci:.a", ".a");
	assert_name("r.example:5000/a/b", "r.example:5000/a/b:latest");
	assert_name("docker.io/alpine:3", "docker.io/library/alpine:3");
	assert_name("r.example/a@sha256:" SUM, "r.example/a@sha256:" SUM);
	assert_name("r.example/a:v1@sha256:" SUM, "r.example/a:v1");
}

static void a_name_that_does_not_fit_is_none(void **state)
{
	char text[LIMIT_PATH], out[LIMIT_REF];
	struct ref r = parse(long_text(text, "oci:", 600));

	ref_default_name(&r, out);
	assert_string_equal(out, "");
	assert_false(ref_name_valid(out));
}

static void stored_names(void **state)
{
	char text[LIMIT_REF + 1];

	assert_true(ref_name_valid("r.example/a:v1"));
	assert_true(ref_name_valid("web 1 é"));
	assert_false(ref_name_valid(""));
	assert_false(ref_name_valid("a\nb"));
	assert_false(ref_name_valid("a\x1b[2J"));
	assert_false(ref_name_valid("a\x7f"));
	assert_true(ref_name_valid(long_text(text, "", LIMIT_REF - 1)));
	assert_false(ref_name_valid(long_text(text, "", LIMIT_REF)));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(layouts),
		cmocka_unit_test(registries),
		cmocka_unit_test(docker_hub),
		cmocka_unit_test(digests),
		cmocka_unit_test(plain_http_only_on_loopback),
		cmocka_unit_test(loopback_hosts),
		cmocka_unit_test(texts_that_name_no_image),
		cmocka_unit_test(wrong_layouts),
		cmocka_unit_test(wrong_hosts),
		cmocka_unit_test(wrong_names),
		cmocka_unit_test(wrong_versions),
		cmocka_unit_test(a_message_is_one_line),
		cmocka_unit_test(lengths),
		cmocka_unit_test(default_names),
		cmocka_unit_test(a_name_that_does_not_fit_is_none),
		cmocka_unit_test(stored_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
