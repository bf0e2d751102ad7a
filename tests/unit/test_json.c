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
#include "oci/base/json.h"
#include "oci/base/limits.h"

#define MAX (4u << 20)

static struct json *parse_n(const void *text, size_t len)
{
	struct json *doc = NULL;
	struct err e = ERR_INIT;

	if (json_parse(text, len, MAX, "test", &doc, &e) < 0)
		fail_msg("%s", e.text);
	return doc;
}

static struct json *parse(const char *text)
{
	return parse_n(text, strlen(text));
}

/* The text must be refused with -EINVAL, a message that holds @why and an untouched result. */
static void refused_n(const void *text, size_t len, const char *why)
{
	struct json *doc = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(json_parse(text, len, MAX, "thing", &doc, &e), -EINVAL);
	assert_null(doc);
	assert_memory_equal(e.text, "thing: ", 7);
	if (!strstr(e.text, why))
		fail_msg("'%s' does not hold '%s'", e.text, why);
}

static void refused(const char *text, const char *why)
{
	refused_n(text, strlen(text), why);
}

static void reads_what_is_there(void **state)
{
	_cleanup_(json_freep) struct json *doc =
		parse(" {\"s\": \"x\", \"i\": -42, \"t\": true, \"f\": false, \"n\": null,"
		      " \"a\": [1, \"two\", [3], {}], \"o\": {\"k\": \"v\", \"l\": 2}} \n");
	const struct json *a = json_get(doc, "a");
	const struct json *o = json_get(doc, "o");
	int64_t i = 0;

	assert_true(json_is_object(doc));
	assert_int_equal(json_count(doc), 7);
	assert_string_equal(json_get_str(doc, "s"), "x");
	assert_true(json_get_int(doc, "i", &i));
	assert_int_equal(i, -42);
	assert_true(json_bool(json_get(doc, "t"), false));
	assert_false(json_bool(json_get(doc, "f"), true));
	assert_true(json_is_null(json_get(doc, "n")));
	assert_false(json_is_null(json_get(doc, "f")));
	assert_true(json_is_array(a));
	assert_int_equal(json_count(a), 4);
	assert_true(json_int(json_at(a, 0), &i));
	assert_int_equal(i, 1);
	assert_string_equal(json_str(json_at(a, 1)), "two");
	assert_true(json_int(json_at(json_at(a, 2), 0), &i));
	assert_int_equal(i, 3);
	assert_true(json_is_object(json_at(a, 3)));
	assert_int_equal(json_count(json_at(a, 3)), 0);
	assert_string_equal(json_key_at(o, 0), "k");
	assert_string_equal(json_str(json_value_at(o, 0)), "v");
	assert_string_equal(json_key_at(o, 1), "l");
}

static void another_type_is_not_there(void **state)
{
	_cleanup_(json_freep) struct json *doc = parse("{\"s\":\"1\",\"i\":1,\"a\":[1]}");
	const struct json *a = json_get(doc, "a");
	int64_t i = 77;

	assert_null(json_get(doc, "none"));
	assert_null(json_get(a, "s"));
	assert_null(json_get_str(doc, "i"));
	assert_false(json_get_int(doc, "s", &i));
	assert_false(json_get_int(doc, "none", &i));
	assert_true(json_bool(json_get(doc, "s"), true));
	assert_false(json_bool(json_get(doc, "s"), false));
	assert_null(json_at(a, 1));
	assert_null(json_at(a, SIZE_MAX));
	assert_null(json_at(doc, 0));
	assert_null(json_key_at(a, 0));
	assert_null(json_value_at(a, 0));
	assert_null(json_key_at(doc, 3));
	assert_null(json_value_at(doc, 3));
	assert_int_equal(json_count(json_get(doc, "s")), 0);
	assert_int_equal(i, 77);
}

static void null_is_not_there(void **state)
{
	int64_t i = 77;

	assert_null(json_get(NULL, "x"));
	assert_null(json_str(NULL));
	assert_false(json_int(NULL, &i));
	assert_true(json_bool(NULL, true));
	assert_false(json_is_object(NULL));
	assert_false(json_is_array(NULL));
	assert_false(json_is_null(NULL));
	assert_int_equal(json_count(NULL), 0);
	assert_null(json_at(NULL, 0));
	assert_null(json_key_at(NULL, 0));
	assert_null(json_value_at(NULL, 0));
	assert_null(json_get_str(NULL, "x"));
	assert_false(json_get_int(NULL, "x", &i));
	assert_null(json_free(NULL));
}

static void any_value_is_a_document(void **state)
{
	static const char *const docs[] = {"1", "\"x\"", "null", "true", "[]", "{}", "0 ", "1e5"};

	for (size_t i = 0; i < ARRAY_LEN(docs); i++)
		json_free(parse(docs[i]));
}

static void integers_have_64_bits(void **state)
{
	_cleanup_(json_freep) struct json *doc =
		parse("[9223372036854775807, -9223372036854775808, 9223372036854775808,"
		      " -9223372036854775809, 1.0, 1e3, 0, -0, 123456789012345678901234567890]");
	static const bool good[] = {true, true, false, false, false, false, true, true, false};
	static const int64_t want[] = {INT64_MAX, INT64_MIN, 7, 7, 7, 7, 0, 0, 7};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		int64_t v = 7;

		assert_int_equal(json_int(json_at(doc, i), &v), good[i]);
		assert_true(v == want[i]);
	}
}

static void the_first_of_equal_keys_counts(void **state)
{
	_cleanup_(json_freep) struct json *doc = parse("{\"a\":\"1\",\"b\":0,\"a\":\"2\"}");

	assert_string_equal(json_get_str(doc, "a"), "1");
	assert_int_equal(json_count(doc), 3);
	assert_string_equal(json_key_at(doc, 2), "a");
	assert_string_equal(json_str(json_value_at(doc, 2)), "2");
}

static void escapes_are_decoded(void **state)
{
	_cleanup_(json_freep) struct json *doc =
		parse("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\", \"\\u00e9\\u20ac\\ud83d\\ude00\"]");

	assert_string_equal(json_str(json_at(doc, 0)), "\"\\/\b\f\n\r\t");
	assert_string_equal(json_str(json_at(doc, 1)), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
}

static void comments_are_allowed(void **state)
{
	_cleanup_(json_freep) struct json *doc =
		parse("// [[[ \" {\n{ /* \" ]] ** / */ \"a\": \"/* // */\" }\n// end");

	assert_string_equal(json_get_str(doc, "a"), "/* // */");
}

/* ---- what must not get in ---- */

static void broken_texts_are_refused(void **state)
{
	static const char *const bad[] = {
		"",         " ",         "{",       "[",        "[1",
		"[1,",      "[1,]",      "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
		"{1:2}",    "{'a':1}",   "nul",     "tru",      "\"abc",
		"\"\\",     "\"\\u12\"", "\"\\x\"", "01",       "-",
		"1.",       ".5",        "+1",      "1e",       "NaN",
		"Infinity", "]",         "}",       "[}",       "{]",
		",",        ":",         "[,]",     "[,,,,,]",  "/",
		"/*",       "//",        "/* *",    "\"a\nb\"", "\xef\xbb\xbf{}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bad[i], "bad JSON");
}

static void a_cut_at_any_byte_is_refused(void **state)
{
	static const char text[] =
		"{\"a\":[1,\"\\u00e9\\ud83d\\ude00\",{\"b\":null}],\"c\":-1.5e3}";

	/* In an allocation of its very length, so that a sanitizer sees a read past the end. */
	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		_cleanup_free_ char *cut = malloc(len ? len : 1);

		assert_non_null(cut);
		memcpy(cut, text, len);
		refused_n(cut, len, "bad JSON");
	}
}

static void trailing_garbage_is_refused(void **state)
{
	refused("{} x", "trailing garbage");
	refused("{}{}", "trailing garbage");
	refused("1 2", "trailing garbage");
	refused("[]]", "trailing garbage");
	refused_n("{}\0", 3, "trailing garbage");
}

static void nul_bytes(void **state)
{
	_cleanup_(json_freep) struct json *doc = parse("[\"a\\u0000b\", \"\\u0000\", \"ab\"]");

	/* A string with a NUL in it is a string we do not hand out. */
	assert_null(json_str(json_at(doc, 0)));
	assert_null(json_str(json_at(doc, 1)));
	assert_string_equal(json_str(json_at(doc, 2)), "ab");
	refused_n("[\"a\0b\"]", 7, "bad JSON");
	refused_n("[1\0]", 4, "bad JSON");
	refused_n("\0", 1, "bad JSON");
	/* It would be found under "a". */
	refused("{\"a\\u0000b\":1}", "a key holds a NUL");
}

static void what_is_not_utf8_is_refused(void **state)
{
	static const char *const bad[] = {
		"\"\xff\"",             /* never a byte of UTF-8 */
		"\"\x80\"",             /* a continuation alone */
		"\"\xc3\"",             /* cut short */
		"\"\xc3(\"",            /* followed by something else */
		"\"\xc0\xaf\"",         /* overlong, 2 */
		"\"\xe0\x80\xaf\"",     /* overlong, 3 */
		"\"\xf0\x80\x80\xaf\"", /* overlong, 4 */
		"\"\xed\xa0\x80\"",     /* a surrogate */
		"\"\xf4\x90\x80\x80\"", /* past U+10FFFF */
		"\"\xf5\x80\x80\x80\"",
		"\"\xf8\x88\x80\x80\x80\"",
		"{\"\xc0\xaf\":1}",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bad[i], "bad JSON");
	json_free(parse("[\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\","
			"\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"]"));
}

static void half_a_surrogate_pair_is_refused(void **state)
{
	refused("\"\\ud800\"", "surrogate");
	refused("\"\\ud800x\"", "surrogate");
	refused("\"\\udc00\"", "surrogate");
	refused("\"\\ud800\\u0041\"", "surrogate");
	refused("\"\\ud800\\ud800\"", "surrogate");
	refused("\"\\udc00\\udc00\"", "surrogate");
	refused("{\"\\uDBFF\":1}", "surrogate");
	/* Not an escape at all: the backslash itself is escaped. */
	json_free(parse("\"\\\\ud800\""));
}

static char *nested(size_t depth, char open, const char *middle, char close)
{
	size_t n = strlen(middle);
	char *text = malloc(2 * depth + n + 1);

	assert_non_null(text);
	memset(text, open, depth);
	memcpy(text + depth, middle, n);
	memset(text + depth + n, close, depth);
	text[2 * depth + n] = '\0';
	return text;
}

static void depth_is_limited(void **state)
{
	static const size_t deep[] = {LIMIT_JSON_DEPTH + 1, 50, 1000000};
	_cleanup_free_ char *fits = nested(LIMIT_JSON_DEPTH, '[', "1", ']');

	json_free(parse(fits));
	for (size_t i = 0; i < ARRAY_LEN(deep); i++) {
		_cleanup_free_ char *text = nested(deep[i], '[', "1", ']');

		refused(text, "nested deeper than 32 levels");
		/* It is the scan that says so, not the parser at the end of the text. */
		text[deep[i]] = '?';
		refused(text, "nested deeper than 32 levels");
	}
}

static void depth_counts_objects(void **state)
{
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	for (int i = 0; i < 33; i++)
		buf_put_str(&b, i % 2 ? "[" : "{\"a\":");
	refused_n(b.data, b.len, "nested deeper than 32 levels");
}

static void brackets_in_strings_and_comments_do_not_count(void **state)
{
	_cleanup_free_ char *brackets = nested(50, '[', "\\\"", '{');
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	buf_printf(&b, "/* %s */ [\"%s\", \"\\\\\", \"%s\"] // %s", brackets, brackets, brackets,
		   brackets);
	doc = parse_n(b.data, b.len);
	assert_int_equal(json_count(doc), 3);
}

static void closing_does_not_buy_depth(void **state)
{
	_cleanup_free_ char *deep = nested(50, '[', "", ']');
	_cleanup_free_ char *front = nested(60, ']', "", ']');
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	buf_printf(&b, "%s%s", front, deep);
	refused_n(b.data, b.len, "nested deeper");
	/* Nor does it cost any: the parser is the one to complain. */
	refused("]][", "unallowed token");
}

static void size_is_limited(void **state)
{
	size_t len = 5u << 20;
	_cleanup_free_ char *text = malloc(len);
	struct json *doc = NULL;
	struct err e = ERR_INIT;

	assert_non_null(text);
	memset(text, ' ', len);
	text[0] = '1';
	assert_int_equal(json_parse(text, len, LIMIT_MANIFEST, "manifest x", &doc, &e), -EFBIG);
	assert_null(doc);
	assert_string_equal(e.text, "manifest x: 5242880 bytes are more than the limit of 4194304");
	assert_int_equal(json_parse(text, LIMIT_MANIFEST + 1, LIMIT_MANIFEST, "x", &doc, &e),
			 -EFBIG);
	assert_int_equal(json_parse(text, LIMIT_MANIFEST, LIMIT_MANIFEST, "x", &doc, &e), 0);
	json_free(doc);
}

static void many_values_fit(void **state)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf b;
	int64_t v = 0;

	buf_init(&b, MAX);
	buf_put_str(&b, "[0");
	for (int i = 1; i < 300000; i++)
		buf_printf(&b, i % 3 ? ",%d" : ",{\"k\":[%d]}", i);
	buf_put_str(&b, "]");
	doc = parse_n(b.data, b.len);
	assert_int_equal(json_count(doc), 300000);
	assert_true(json_int(json_at(doc, 299999 - 1), &v));
	assert_int_equal(v, 299998);
	assert_true(json_int(json_at(json_get(json_at(doc, 299997), "k"), 0), &v));
	assert_int_equal(v, 299997);
}

static void errors_tell_where(void **state)
{
	refused("{\n  \"a\": 1\n  \"b\": 2\n}", "in line 3, byte ");
	refused("{\"a\": 1", "byte 7: ");
	assert_int_equal(json_parse("{", 1, MAX, "x", &(struct json *){NULL}, NULL), -EINVAL);
}

/* ---- writing ---- */

/* Copies a document through the generator. */
static void copied(const char *text, const char *want)
{
	_cleanup_(json_freep) struct json *doc = parse(text);
	_cleanup_buf_ struct buf b;
	struct json_gen *g;

	buf_init(&b, MAX);
	g = json_gen_new(&b, false);
	json_put_value(g, NULL, doc);
	json_gen_free(g);
	assert_int_equal(b.failed, 0);
	assert_string_equal(buf_cstr(&b), want);
}

static void copies_are_faithful(void **state)
{
	static const char *const same[] = {
		"{\"a\":[1,2.50,1E400,-0,0.1e-7,123456789012345678901234567890],\"b\":{}}",
		"{\"a\":1,\"a\":2,\"\":[],\"/\":\"/\"}",
		"[true,false,null,\"\",\"\\u0000x\\u0000\",\"\\\"\\\\\\n\\u001F\"]",
		"\"\xf0\x9f\x98\x80\xe2\x82\xac\"",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
		"17",
	};

	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		copied(same[i], same[i]);
	copied(" [ 1 , /* x */ \"\\u20ac\\/\" ]", "[1,\"\xe2\x82\xac/\"]");
}

static void a_document_can_be_edited(void **state)
{
	_cleanup_(json_freep) struct json *doc = parse("{\"keep\":{\"x\":[1.0]},\"drop\":1}");
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	g = json_gen_new(&b, false);
	json_open_map(g, NULL);
	for (size_t i = 0; i < json_count(doc); i++)
		if (strcmp(json_key_at(doc, i), "drop") != 0)
			json_put_value(g, json_key_at(doc, i), json_value_at(doc, i));
	json_put_value(g, "none", NULL);
	json_close_map(g);
	assert_string_equal(buf_cstr(&b), "{\"keep\":{\"x\":[1.0]},\"none\":null}");
}

static void write_sample(struct json_gen *g)
{
	json_open_map(g, NULL);
	json_put_str(g, "s", "a\"b\\c/\n\x01");
	json_put_str(g, "n", NULL);
	json_put_int(g, "min", INT64_MIN);
	json_put_int(g, "max", INT64_MAX);
	json_open_array(g, "a");
	json_put_bool(g, NULL, true);
	json_put_bool(g, NULL, false);
	json_open_map(g, NULL);
	json_close_map(g);
	json_close_array(g);
	json_close_map(g);
}

static void compact_output(void **state)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	g = json_gen_new(&b, false);
	write_sample(g);
	assert_string_equal(buf_cstr(&b),
			    "{\"s\":\"a\\\"b\\\\c/\\n\\u0001\",\"n\":null,"
			    "\"min\":-9223372036854775808,\"max\":9223372036854775807,"
			    "\"a\":[true,false,{}]}");
}

static void pretty_output_is_for_people(void **state)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	g = json_gen_new(&b, true);
	json_open_map(g, NULL);
	json_put_int(g, "one", 1);
	json_open_array(g, "list");
	json_put_str(g, NULL, "x");
	json_close_array(g);
	json_close_map(g);
	assert_string_equal(buf_cstr(&b), "{\n  \"one\": 1,\n  \"list\": [\n    \"x\"\n  ]\n}\n");
}

static void what_is_written_can_be_read(void **state)
{
	for (int pretty = 0; pretty < 2; pretty++) {
		_cleanup_(json_gen_freep) struct json_gen *g = NULL;
		_cleanup_(json_freep) struct json *doc = NULL;
		_cleanup_buf_ struct buf b;
		int64_t v = 0;

		buf_init(&b, MAX);
		g = json_gen_new(&b, pretty);
		write_sample(g);
		doc = parse_n(b.data, b.len);
		assert_string_equal(json_get_str(doc, "s"), "a\"b\\c/\n\x01");
		assert_true(json_get_int(doc, "min", &v));
		assert_true(v == INT64_MIN);
		assert_int_equal(json_count(json_get(doc, "a")), 3);
	}
}

#define BAD "\xef\xbf\xbd"

static void bad_bytes_are_replaced_one_by_one(void **state)
{
	static const char *const pairs[][2] = {
		{"a\xff"
		 "b",
		 "a" BAD "b"},
		{"\xc0\xaf", BAD BAD},
		{"\xed\xa0\x80", BAD BAD BAD},
		{"\xf4\x90\x80\x80", BAD BAD BAD BAD},
		{"\xe2\x82", BAD BAD},
		{"\xe2\x82\xac\xe2", "\xe2\x82\xac" BAD},
		{"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
	};

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		_cleanup_(json_gen_freep) struct json_gen *g = NULL;
		_cleanup_(json_freep) struct json *doc = NULL;
		_cleanup_buf_ struct buf b;

		buf_init(&b, MAX);
		g = json_gen_new(&b, false);
		json_open_map(g, NULL);
		json_put_str(g, pairs[i][0], pairs[i][0]);
		json_close_map(g);
		doc = parse_n(b.data, b.len);
		assert_string_equal(json_key_at(doc, 0), pairs[i][1]);
		assert_string_equal(json_str(json_value_at(doc, 0)), pairs[i][1]);
	}
}

static void a_full_buffer_is_sticky(void **state)
{
	for (size_t max = 0; max < 60; max++) {
		_cleanup_(json_gen_freep) struct json_gen *g = NULL;
		_cleanup_buf_ struct buf b;

		buf_init(&b, max);
		g = json_gen_new(&b, false);
		write_sample(g);
		assert_int_equal(b.failed, -EFBIG);
		assert_true(b.len <= max);
		assert_null(buf_cstr(&b));
	}
}

static void misuse_is_sticky(void **state)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, MAX);
	g = json_gen_new(&b, false);
	json_open_map(g, NULL);
	json_put_int(g, NULL, 1);
	json_close_map(g);
	assert_int_equal(b.failed, -EINVAL);
	assert_null(json_gen_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_is_there),
		cmocka_unit_test(another_type_is_not_there),
		cmocka_unit_test(null_is_not_there),
		cmocka_unit_test(any_value_is_a_document),
		cmocka_unit_test(integers_have_64_bits),
		cmocka_unit_test(the_first_of_equal_keys_counts),
		cmocka_unit_test(escapes_are_decoded),
		cmocka_unit_test(comments_are_allowed),
		cmocka_unit_test(broken_texts_are_refused),
		cmocka_unit_test(a_cut_at_any_byte_is_refused),
		cmocka_unit_test(trailing_garbage_is_refused),
		cmocka_unit_test(nul_bytes),
		cmocka_unit_test(what_is_not_utf8_is_refused),
		cmocka_unit_test(half_a_surrogate_pair_is_refused),
		cmocka_unit_test(depth_is_limited),
		cmocka_unit_test(depth_counts_objects),
		cmocka_unit_test(brackets_in_strings_and_comments_do_not_count),
		cmocka_unit_test(closing_does_not_buy_depth),
		cmocka_unit_test(size_is_limited),
		cmocka_unit_test(many_values_fit),
		cmocka_unit_test(errors_tell_where),
		cmocka_unit_test(copies_are_faithful),
		cmocka_unit_test(a_document_can_be_edited),
		cmocka_unit_test(compact_output),
		cmocka_unit_test(pretty_output_is_for_people),
		cmocka_unit_test(what_is_written_can_be_read),
		cmocka_unit_test(bad_bytes_are_replaced_one_by_one),
		cmocka_unit_test(a_full_buffer_is_sticky),
		cmocka_unit_test(misuse_is_sticky),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
