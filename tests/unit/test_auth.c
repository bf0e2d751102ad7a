/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/auth.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/* --- WWW-Authenticate ------------------------------------------------------------------------ */

static void expect(const char **p, enum auth_scheme scheme, const char *realm, const char *service,
		   const char *scope)
{
	struct auth_challenge c;

	assert_int_equal(auth_challenge_next(p, &c), 1);
	assert_int_equal(c.scheme, scheme);
	assert_string_equal(c.realm, realm);
	assert_string_equal(c.service, service);
	assert_string_equal(c.scope, scope);
}

static void expect_end(const char **p)
{
	struct auth_challenge c;

	assert_int_equal(auth_challenge_next(p, &c), 0);
}

static void test_docker_hub(void **state)
{
	const char *p = "Bearer realm=\"https://auth.docker.io/token\","
			"service=\"registry.docker.io\",scope=\"repository:library/alpine:pull\"";

	expect(&p, AUTH_BEARER, "https://auth.docker.io/token", "registry.docker.io",
	       "repository:library/alpine:pull");
	expect_end(&p);
}

static void test_commas_and_escapes_in_quotes(void **state)
{
	const char *p = "Bearer realm=\"https://a/?x=\\\"1\\\\2\\\",b\" , "
			"scope=\"repository:a:pull,push repository:b:pull\", error=\"a, Basic b\"";

	expect(&p, AUTH_BEARER, "https://a/?x=\"1\\2\",b", "",
	       "repository:a:pull,push repository:b:pull");
	expect_end(&p);
}

static void test_several_challenges_in_one_header(void **state)
{
	const char *p =
		", Negotiate,NTLM TlRMTVNTUAAB==, Digest realm=d, qop=\"auth,auth-int\" ,,"
		"Basic realm=\"b\", charset=\"UTF-8\",\tBearer realm = \"r\" , service\t=s, ";

	expect(&p, AUTH_OTHER, "", "", "");
	expect(&p, AUTH_OTHER, "", "", "");
	expect(&p, AUTH_OTHER, "d", "", "");
	expect(&p, AUTH_BASIC, "b", "", "");
	expect(&p, AUTH_BEARER, "r", "s", "");
	expect_end(&p);
}

static void test_names_have_no_case(void **state)
{
	const char *p = "BEARER REALM=\"R\",Service=S,sCOPE=\"x\", basic Realm=y";

	expect(&p, AUTH_BEARER, "R", "S", "x");
	expect(&p, AUTH_BASIC, "y", "", "");
	expect_end(&p);
}

static void test_first_of_a_doubled_parameter_counts(void **state)
{
	const char *p = "Bearer realm=one, realm=two";

	expect(&p, AUTH_BEARER, "one", "", "");
	expect_end(&p);
}

static void test_similar_words_are_other_schemes(void **state)
{
	const char *p = "Bearers realm=a, Bea realm=b, X-Basic realm=c, Basic2";

	expect(&p, AUTH_OTHER, "a", "", "");
	expect(&p, AUTH_OTHER, "b", "", "");
	expect(&p, AUTH_OTHER, "c", "", "");
	expect(&p, AUTH_OTHER, "", "", "");
	expect_end(&p);
}

static void test_empty_values(void **state)
{
	const char *p = "Bearer realm=\"\",scope=\"\"";

	expect(&p, AUTH_BEARER, "", "", "");
	expect_end(&p);
	p = "";
	expect_end(&p);
	p = " ,\t, ";
	expect_end(&p);
}

static void test_bad_grammar(void **state)
{
	static const char *const bad[] = {
		"Bearer realm=\"open",
		"Bearer realm=\"ends in a backslash\\",
		"Bearer realm=\"a\"b",
		"Bearer realm=\"a\" service=\"b\"",
		"Bearer realm=a, =b",
		"Bearer realm=a, service=,",
		"Bearer realm=\"line\nbreak\"",
		"Bearer realm=\"del\x7f\"",
		"Bearer realm=\"escaped line\\\nbreak\"",
		"Bearer;realm=a",
		"=x",
		"\"Bearer\" realm=a",
		"Bearer realm=a, (b)",
		"Bearer r\xc3\xa4lm=a",
		"Bearer\trealm=a",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct auth_challenge c;
		const char *p = bad[i];
		int r;

		while ((r = auth_challenge_next(&p, &c)) > 0)
			;
		if (r != -EPROTO)
			print_message("accepted: %s\n", bad[i]);
		assert_int_equal(r, -EPROTO);
	}
}

static void test_lengths(void **state)
{
	const struct {
		const char *name;
		size_t max;
	} params[] = {
		{"realm", LIMIT_REALM - 1},
		{"service", LIMIT_NAME - 1},
		{"scope", LIMIT_SCOPE - 1},
		{"other", 60000},
	};

	for (size_t i = 0; i < ARRAY_LEN(params); i++) {
		for (size_t over = 0; over < 2; over++) {
			_cleanup_free_ char *fill = calloc(1, params[i].max + over + 1);
			_cleanup_free_ char *text = NULL;
			struct auth_challenge c;
			const char *p;
			bool ok = !over || i == 3;

			memset(fill, 'x', params[i].max + over);
			assert_true(asprintf(&text, "Bearer %s=\"%s\"", params[i].name, fill) > 0);
			p = text;
			assert_int_equal(auth_challenge_next(&p, &c), ok ? 1 : -EPROTO);
		}
	}
}

static void test_best_is_bearer_with_a_realm(void **state)
{
	struct auth_challenge best = {.scheme = AUTH_OTHER};

	assert_int_equal(auth_challenge_best("Digest realm=d", &best), 0);
	assert_int_equal(best.scheme, AUTH_OTHER);
	assert_int_equal(auth_challenge_best("Bearer service=x, Basic realm=b", &best), 0);
	assert_int_equal(best.scheme, AUTH_BASIC);
	assert_int_equal(auth_challenge_best("Bearer realm=r, Basic realm=c", &best), 0);
	assert_int_equal(best.scheme, AUTH_BEARER);
	assert_string_equal(best.realm, "r");
	assert_int_equal(auth_challenge_best("Bearer realm=second", &best), 0);
	assert_string_equal(best.realm, "r");
}

static void test_best_keeps_what_came_before_the_bad_place(void **state)
{
	struct auth_challenge best = {.scheme = AUTH_OTHER};

	assert_int_equal(auth_challenge_best("Bearer realm=r, Basic realm=\"", &best), -EPROTO);
	assert_int_equal(best.scheme, AUTH_BEARER);
	assert_string_equal(best.realm, "r");
}

/* --- credentials ----------------------------------------------------------------------------- */

static void test_basic(void **state)
{
	static const struct {
		const char *user, *secret, *want;
	} cases[] = {
		/* RFC 7617, section 2 */
		{"Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
		{"test", "123\xc2\xa3", "Basic dGVzdDoxMjPCow=="},
		{"", "", "Basic Og=="},
		{"u", "a:b:c", "Basic dTphOmI6Yw=="},
		{"abc", "de", "Basic YWJjOmRl"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_(auth_wipep) char *got = NULL;

		assert_int_equal(auth_basic(cases[i].user, cases[i].secret, &got), 0);
		assert_string_equal(got, cases[i].want);
	}
}

static void test_basic_cannot_carry(void **state)
{
	char *got = NULL;

	assert_int_equal(auth_basic("a:b", "c", &got), -EINVAL);
	assert_int_equal(auth_basic("a\r\nX: y", "c", &got), -EINVAL);
	assert_int_equal(auth_basic("a", "c\n", &got), -EINVAL);
	assert_null(got);
}

static void expect_token(const char *json, const char *want, uint32_t expires)
{
	_cleanup_(auth_wipep) char *got = NULL;
	struct err e = ERR_INIT;
	uint32_t s = 12345;

	assert_int_equal(auth_token_parse(json, strlen(json), &got, &s, &e), 0);
	assert_string_equal(got, want);
	assert_int_equal(s, expires);
	assert_int_equal(e.code, 0);
	assert_string_equal(e.text, "");
}

static void test_token(void **state)
{
	expect_token("{\"token\":\"abc\"}", "Bearer abc", 60);
	expect_token("{\"access_token\":\"abc\",\"expires_in\":300}", "Bearer abc", 300);
	expect_token("{\"token\":\"one\",\"access_token\":\"two\"}", "Bearer one", 60);
	expect_token("{\"token\":\"\",\"access_token\":\"two\"}", "Bearer two", 60);
	expect_token("{\"token\":\"t\",\"expires_in\":\"300\"}", "Bearer t", 60);
	expect_token("{\"token\":\"t\",\"expires_in\":0}", "Bearer t", 0);
	expect_token("{\"token\":\"t\",\"expires_in\":-9223372036854775808}", "Bearer t", 0);
	expect_token("{\"token\":\"t\",\"expires_in\":9223372036854775807}", "Bearer t", 86400);
	expect_token("{\"issued_at\":\"2026-01-01T00:00:00Z\",\"token\":\"a.b-c_d~e+f/g==\"}",
		     "Bearer a.b-c_d~e+f/g==", 60);
}

static void expect_no_token(const char *json, size_t len)
{
	struct err e = ERR_INIT;
	char *got = NULL;
	uint32_t s = 7;

	assert_int_equal(auth_token_parse(json, len, &got, &s, &e), -EPROTO);
	assert_null(got);
	assert_int_equal(s, 7);
	assert_int_equal(e.code, -EPROTO);
	assert_null(strstr(e.text, "s3cr3t"));
}

static void test_token_refused(void **state)
{
	static const char *const bad[] = {
		"",
		"s3cr3t",
		"{\"token\":\"s3cr3t\"",
		"{\"token\":s3cr3t}",
		"[\"s3cr3t\"]",
		"{}",
		"{\"token\":17}",
		"{\"token\":\"s3cr3t\\r\\nX-Header: y\"}",
		"{\"token\":\"s3cr3t with blank\"}",
		"{\"token\":\"s3cr3t\\u0000\"}",
		"{\"token\":\"s3cr3t\\u00e4\"}",
		"{\"token\":\"\",\"access_token\":\"\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect_no_token(bad[i], strlen(bad[i]));
}

static void test_token_of_any_length_up_to_the_limit(void **state)
{
	for (size_t over = 0; over < 2; over++) {
		_cleanup_free_ char *fill = calloc(1, LIMIT_TOKEN + over + 1);
		_cleanup_free_ char *json = NULL;
		_cleanup_free_ char *want = NULL;

		memset(fill, 'x', LIMIT_TOKEN + over);
		assert_true(asprintf(&json, "{\"token\":\"%s\"}", fill) > 0);
		assert_true(asprintf(&want, "Bearer %s", fill) > 0);
		if (over)
			expect_no_token(json, strlen(json));
		else
			expect_token(json, want, 60);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_docker_hub),
		cmocka_unit_test(test_commas_and_escapes_in_quotes),
		cmocka_unit_test(test_several_challenges_in_one_header),
		cmocka_unit_test(test_names_have_no_case),
		cmocka_unit_test(test_first_of_a_doubled_parameter_counts),
		cmocka_unit_test(test_similar_words_are_other_schemes),
		cmocka_unit_test(test_empty_values),
		cmocka_unit_test(test_bad_grammar),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_best_is_bearer_with_a_realm),
		cmocka_unit_test(test_best_keeps_what_came_before_the_bad_place),
		cmocka_unit_test(test_basic),
		cmocka_unit_test(test_basic_cannot_carry),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_token_refused),
		cmocka_unit_test(test_token_of_any_length_up_to_the_limit),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
