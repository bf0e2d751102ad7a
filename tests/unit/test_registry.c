/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the registry client that need no server: URLs, Content-Range, the table of
 * accounts, arguments. What needs one is in tests/system/registry.bats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/account.h"
#include "oci/auth.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/range.h"
#include "oci/ref.h"
#include "oci/registry.h"
#include "oci/url.h"

#define SHA "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void set(char *dst, size_t size, const char *src)
{
	snprintf(dst, size, "%s", src);
}

static struct registry_at at_of(const char *host, const char *repo, bool plain)
{
	struct registry_at at = {.plain_http = plain};

	set(at.host, sizeof(at.host), host);
	set(at.repo, sizeof(at.repo), repo);
	return at;
}

/* --- Content-Range --------------------------------------------------------------------------- */

static void test_range_taken_apart(void **state)
{
	struct content_range c;

	assert_int_equal(content_range_parse("bytes 5-9/20", &c), 0);
	assert_true(c.first == 5 && c.last == 9 && c.total == 20);
	assert_int_equal(content_range_parse("BYTES 0-0/*", &c), 0);
	assert_true(c.first == 0 && c.last == 0 && c.total == UINT64_MAX);
	assert_int_equal(content_range_parse("bytes 0-9223372036854775806/9223372036854775807", &c),
			 0);
	assert_true(c.last == INT64_MAX - 1 && c.total == INT64_MAX);
}

static void test_range_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"bytes",
		"bytes ",
		"bytes */20",
		"bytes 5-9",
		"bytes 5-9/",
		"bytes 5-9/20 ",
		"bytes 5-9/20, 11-12/20",
		"bytes  5-9/20",
		"bytes=5-9/20",
		"bytes 5 - 9/20",
		"bytes -9/20",
		"bytes 5-/20",
		"bytes +5-9/20",
		"bytes 0x5-9/20",
		"bytes 9-5/20",
		"bytes 5-20/20",
		"bytes 5-9/9",
		"bytes 0-0/0",
		"bytes 5-9/**",
		"items 5-9/20",
		"bytes 9223372036854775808-9223372036854775809/*",
		"bytes 18446744073709551621-18446744073709551625/20",
	};
	struct content_range c;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (content_range_parse(bad[i], &c) == 0)
			print_message("accepted: %s\n", bad[i]);
		assert_int_equal(content_range_parse(bad[i], &c), -EPROTO);
	}
}

static void test_range_is_exactly_what_was_asked(void **state)
{
	assert_true(content_range_is("bytes 5-9/20", 5, 5, 20));
	assert_true(content_range_is("bytes 5-9/*", 5, 5, 20));
	assert_false(content_range_is("bytes 5-9/20", 5, 4, 20));
	assert_false(content_range_is("bytes 5-9/20", 5, 6, 20));
	assert_false(content_range_is("bytes 5-9/20", 4, 5, 20));
	assert_false(content_range_is("bytes 5-9/20", 5, 5, 21));
	assert_false(content_range_is("bytes 0-0/20", 0, 0, 20));
	assert_false(content_range_is("nonsense", 0, 1, 20));
	assert_false(content_range_is(NULL, 0, 1, 20));
}

/* --- URLs ------------------------------------------------------------------------------------ */

static void expect_url(const char *host, const char *repo, bool plain, const char *kind,
		       const char *reference, const char *want)
{
	struct registry_at at = at_of(host, repo, plain);
	_cleanup_free_ char *got = NULL;

	assert_int_equal(url_registry(&at, kind, reference, &got, NULL), 0);
	assert_string_equal(got, want);
}

static void test_registry_urls(void **state)
{
	expect_url("registry-1.docker.io", "library/alpine", false, "manifests", "3.20",
		   "https://registry-1.docker.io/v2/library/alpine/manifests/3.20");
	expect_url("127.0.0.1:5000", "a", true, "blobs", SHA,
		   "http://127.0.0.1:5000/v2/a/blobs/" SHA);
	expect_url("[::1]:5000", "a/b_c/d-e.f/g__h", true, "manifests", "_x.Y-z",
		   "http://[::1]:5000/v2/a/b_c/d-e.f/g__h/manifests/_x.Y-z");
}

static void test_registry_url_refuses(void **state)
{
	static const struct {
		const char *host, *repo, *reference, *says;
	} bad[] = {
		{"", "a", "t", "host"},
		{"h/x", "a", "t", "host"},
		{"h?x", "a", "t", "host"},
		{"h#x", "a", "t", "host"},
		{"u@h", "a", "t", "host"},
		{"u:p@h", "a", "t", "host"},
		{"h\\x", "a", "t", "host"},
		{"h h", "a", "t", "host"},
		{"h\n", "a", "t", "host"},
		{"h%41", "a", "t", "host"},
		{"h:99999", "a", "t", "host"},
		{"h:x", "a", "t", "host"},
		{"[::1", "a", "t", "host"},
		{"h", "", "t", "repository"},
		{"h", "/a", "t", "repository"},
		{"h", "a/", "t", "repository"},
		{"h", "a//b", "t", "repository"},
		{"h", "..", "t", "repository"},
		{"h", "a/../b", "t", "repository"},
		{"h", "a/.b", "t", "repository"},
		{"h", "a/b-", "t", "repository"},
		{"h", "a-/b", "t", "repository"},
		{"h", "A", "t", "repository"},
		{"h", "a?b", "t", "repository"},
		{"h", "a%2fb", "t", "repository"},
		{"h", "a b", "t", "repository"},
		{"h", "a", "", "tag"},
		{"h", "a", "t/../x", "tag"},
		{"h", "a", "t?x", "tag"},
		{"h", "a", ".t", "tag"},
		{"h", "a", "-t", "tag"},
		{"h", "a", "sha256:00", "tag"},
		{"h", "a", "sha512:00", "tag"},
		{"h", "a", SHA "0", "tag"},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct registry_at at = at_of(bad[i].host, bad[i].repo, false);
		struct err e = ERR_INIT;
		char *got = NULL;
		int r = url_registry(&at, "blobs", bad[i].reference, &got, &e);

		if (r != -EINVAL || !strstr(e.text, bad[i].says))
			print_message("%s %s %s: %d %s\n", bad[i].host, bad[i].repo,
				      bad[i].reference, r, e.text);
		assert_int_equal(r, -EINVAL);
		assert_non_null(strstr(e.text, bad[i].says));
		assert_null(got);
	}
}

static void expect_follow(const char *from, const char *location, const char *want)
{
	_cleanup_free_ char *got = NULL;

	assert_int_equal(url_follow(from, location, &got, NULL), 0);
	assert_string_equal(got, want);
}

static void test_follow(void **state)
{
	expect_follow("https://r/v2/a/blobs/x", "https://s.example:444/k?sig=a%2Fb%2B&x=1",
		      "https://s.example:444/k?sig=a%2Fb%2B&x=1");
	expect_follow("https://r:8/v2/a/blobs/x", "/other?q=1", "https://r:8/other?q=1");
	expect_follow("https://r/v2/a/blobs/x", "y", "https://r/v2/a/blobs/y");
	expect_follow("https://r/v2/a/blobs/x", "//s/k", "https://s/k");
	expect_follow("http://r/v2", "https://s/k", "https://s/k");
	expect_follow("http://r/v2", "http://s/k#frag", "http://s/k");
}

static void expect_no_follow(const char *from, const char *location, const char *says)
{
	struct err e = ERR_INIT;
	char *got = NULL;

	assert_int_equal(url_follow(from, location, &got, &e), -EPROTO);
	assert_non_null(strstr(e.text, says));
	assert_null(strstr(e.text, "sig"));
	assert_null(got);
}

static void test_follow_refuses(void **state)
{
	_cleanup_free_ char *big = calloc(1, LIMIT_URL + 32);

	expect_no_follow("https://r/v2", "http://s/k?sig", "from https to plain http");
	expect_no_follow("https://r/v2", "HTTP://s/k?sig", "from https to plain http");
	expect_no_follow("http://r/v2", "ftp://s/k?sig", "neither http nor https");
	expect_no_follow("http://r/v2", "file:///etc/passwd", "");
	expect_no_follow("http://r/v2", "gopher://s/sig", "neither http nor https");
	expect_no_follow("http://r/v2", "https://user:word@s/k?sig", "cannot be used");
	expect_no_follow("http://r/v2", "https://user@s/k?sig", "cannot be used");
	expect_no_follow("http://r/v2", "http://", "");
	expect_no_follow("http://r/v2", "http://s:99999/sig", "cannot be used");
	memset(big, 'x', LIMIT_URL + 31);
	memcpy(big, "https://s/", 10);
	expect_no_follow("http://r/v2", big, "a URL of");
}

static void test_origins(void **state)
{
	assert_true(url_same_origin("https://r/a", "HTTPS://R:443/b?c"));
	assert_true(url_same_origin("http://r/a", "http://r:80"));
	assert_true(url_same_origin("http://[::1]:5/a", "http://[::1]:5/b"));
	assert_false(url_same_origin("https://r/", "http://r/"));
	assert_false(url_same_origin("https://r/", "https://r:444/"));
	assert_false(url_same_origin("https://r/", "https://s/"));
	assert_false(url_same_origin("https://r/", "https://r.evil/"));
	assert_false(url_same_origin("https://r/", "https://r@evil/"));
	assert_false(url_same_origin("nonsense://", "nonsense://"));
	assert_true(url_same_host("https://r/", "http://r:99/"));
	assert_false(url_same_host("https://r/", "https://rr/"));
}

static void test_url_parts(void **state)
{
	char host[LIMIT_NAME];

	assert_string_equal(url_host("https://registry.example:5/x?y", host), "registry.example");
	assert_string_equal(url_host("http://[::1]:5/x", host), "[::1]");
	assert_string_equal(url_host(":::", host), "?");
	assert_int_equal(url_port("https://r/x"), 443);
	assert_int_equal(url_port("http://r/x"), 80);
	assert_int_equal(url_port("http://r:5000/x"), 5000);
	assert_true(url_is_https("HTTPS://r"));
	assert_false(url_is_https("http://https://"));
}

static void expect_token_url(const char *realm, const char *service, const char *scope,
			     const char *want)
{
	_cleanup_free_ char *got = NULL;

	assert_int_equal(url_token(realm, false, service, scope, &got, NULL), 0);
	assert_string_equal(got, want);
}

static void test_token_urls(void **state)
{
	expect_token_url(
		"https://auth/token", "registry.example", "repository:a/b:pull",
		"https://auth/token?service=registry.example&scope=repository%3aa%2fb%3apull");
	expect_token_url("https://auth/token?account=x", "s", "",
			 "https://auth/token?account=x&service=s");
	expect_token_url("https://auth/token", "", " one  two ",
			 "https://auth/token?scope=one&scope=two");
	/* What the registry wrote cannot add parameters of its own, nor end the query. */
	expect_token_url("https://auth/token", "a&scope=b#c=d%", "",
			 "https://auth/token?service=a%26scope%3db%23c%3dd%25");
	expect_token_url("https://auth", "", "", "https://auth/");
}

static void test_token_url_refuses(void **state)
{
	struct err e = ERR_INIT;
	char *got = NULL;

	assert_int_equal(url_token("http://auth/t", true, "s", "c", &got, &e), -EPROTO);
	assert_non_null(strstr(e.text, "plain http"));
	assert_int_equal(url_token("auth-server/t", true, "s", "c", &got, NULL), -EPROTO);
	assert_int_equal(url_token("ftp://auth/t", false, "s", "c", &got, NULL), -EPROTO);
	assert_int_equal(url_token("https://u:p@auth/t", false, "s", "c", &got, NULL), -EPROTO);
	assert_int_equal(url_token("", false, "s", "c", &got, NULL), -EPROTO);
	assert_null(got);
}

static void test_form(void **state)
{
	_cleanup_(auth_wipep) char *form = NULL;

	assert_int_equal(url_form_add(&form, "grant_type", "refresh_token"), 0);
	assert_int_equal(url_form_add(&form, "scope", "a b&c=d+\xc3\xa4"), 0);
	assert_int_equal(url_form_add(&form, "empty", ""), 0);
	assert_string_equal(form, "grant_type=refresh_token&scope=a%20b%26c%3Dd%2B%C3%A4&empty=");
}

/* Plain HTTP is chosen by this; a name that only looks like loopback must not pass. */
static void test_loopback(void **state)
{
	static const char *const yes[] = {"localhost",      "localhost:5000", "127.0.0.1",
					  "127.0.0.1:5000", "127.255.1.2:80", "[::1]",
					  "[::1]:5000"};
	static const char *const no[] = {"localhost.evil.example",
					 "127.0.0.1.evil.example",
					 "127.evil",
					 "10.0.0.1",
					 "128.0.0.1",
					 "1270.0.0.1",
					 "[::2]:5000",
					 "registry.example",
					 "",
					 "xlocalhost"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		assert_true(ref_host_is_loopback(yes[i]));
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		assert_false(ref_host_is_loopback(no[i]));
}

/* --- accounts -------------------------------------------------------------------------------- */

static uint64_t id_of(struct accounts *t, const struct registry_at *at)
{
	struct account *a;
	uint64_t id = 0;

	assert_int_equal(account_find(t, at, &a, &id), 0);
	assert_null(account_authorization(a));
	return id;
}

static void test_accounts_are_told_apart(void **state)
{
	struct accounts *t = accounts_new();
	struct registry_at at = at_of("h", "r", false);
	struct registry_at other[6];
	uint64_t seen[7];

	for (size_t i = 0; i < ARRAY_LEN(other); i++)
		other[i] = at;
	set(other[0].host, sizeof(at.host), "i");
	set(other[1].repo, sizeof(at.repo), "s");
	set(other[2].user, sizeof(at.user), "u");
	set(other[3].secret, sizeof(at.secret), "p");
	other[4].plain_http = true;
	other[5].insecure_tls = true;
	seen[6] = id_of(t, &at);
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		seen[i] = id_of(t, &other[i]);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(seen[i], seen[j]);
		assert_int_not_equal(seen[i], seen[6]);
	}
	assert_int_equal(id_of(t, &at), seen[6]);
	assert_int_equal(id_of(t, &other[3]), seen[3]);
	accounts_free(t);
}

static void test_accounts_make_room(void **state)
{
	struct accounts *t = accounts_new();
	struct registry_at at = at_of("h", "r", false);
	uint64_t first = id_of(t, &at);
	uint64_t second;

	set(at.repo, sizeof(at.repo), "second");
	second = id_of(t, &at);
	for (size_t i = 2; i < LIMIT_ACCOUNTS + 1; i++) {
		set(at.repo, sizeof(at.repo), "r");
		assert_int_equal(id_of(t, &at), first); /* in use all the time */
		snprintf(at.repo, sizeof(at.repo), "r%zu", i);
		id_of(t, &at);
	}
	set(at.repo, sizeof(at.repo), "second");
	assert_int_not_equal(id_of(t, &at), second);
	accounts_free(t);
}

static void test_account_strings_must_end(void **state)
{
	struct accounts *t = accounts_new();
	struct registry_at at = at_of("h", "r", false);
	struct account *a;
	uint64_t id;

	memset(at.secret, 'x', sizeof(at.secret));
	assert_int_equal(account_find(t, &at, &a, &id), -EINVAL);
	accounts_free(t);
}

/* --- arguments ------------------------------------------------------------------------------- */

static void test_ranges_outside_of_the_blob(void **state)
{
	static const uint64_t bad[][3] = {
		{10, 5, 6},          {10, 11, 0},        {10, UINT64_MAX, 2},
		{10, 1, UINT64_MAX}, {UINT64_MAX, 0, 1},
	};
	_cleanup_(registry_freep) struct registry *r = NULL;
	struct registry_at at = at_of("127.0.0.1:1", "r", true);
	struct stream *s = NULL;
	struct digest d;

	assert_int_equal(registry_new(NULL, &r, NULL), 0);
	assert_int_equal(digest_parse(SHA, &d, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(
			registry_blob_range(r, &at, &d, bad[i][0], bad[i][1], bad[i][2], &s, NULL),
			-EINVAL);
	assert_null(s);
}

static void test_free_takes_null(void **state)
{
	assert_null(registry_free(NULL));
	assert_null(accounts_free(NULL));
	assert_null(auth_wipe(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_range_taken_apart),
		cmocka_unit_test(test_range_refused),
		cmocka_unit_test(test_range_is_exactly_what_was_asked),
		cmocka_unit_test(test_registry_urls),
		cmocka_unit_test(test_registry_url_refuses),
		cmocka_unit_test(test_follow),
		cmocka_unit_test(test_follow_refuses),
		cmocka_unit_test(test_origins),
		cmocka_unit_test(test_url_parts),
		cmocka_unit_test(test_token_urls),
		cmocka_unit_test(test_token_url_refuses),
		cmocka_unit_test(test_form),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_accounts_are_told_apart),
		cmocka_unit_test(test_accounts_make_room),
		cmocka_unit_test(test_account_strings_must_end),
		cmocka_unit_test(test_ranges_outside_of_the_blob),
		cmocka_unit_test(test_free_takes_null),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
