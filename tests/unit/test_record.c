/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/manifest.h"
#include "plugin/store/record.h"

static struct digest digest_for(const char *text)
{
	struct digest d;

	assert_int_equal(digest_of(text, strlen(text), &d), 0);
	return d;
}

/* "sha256:" of digits that are all @c but for the last. */
static struct digest digest_like(char c, char last)
{
	char hex[DIGEST_HEX];
	struct digest d;

	memset(hex, c, sizeof(hex));
	hex[DIGEST_HEX - 1] = last;
	assert_int_equal(digest_parse_hex(hex, sizeof(hex), &d), 0);
	return d;
}

static struct record *make(const char *name, uint32_t nlayers)
{
	struct record *r = record_new();
	char text[64];

	assert_non_null(r);
	snprintf(text, sizeof(text), "manifest of %s", name);
	r->manifest = digest_for(text);
	r->manifest_size = 1234;
	r->config = (struct descriptor){MEDIA_CONFIG, digest_for("config"), 99};
	assert_int_equal(record_add_name(r, name), 0);
	assert_int_equal(record_add_source(r, "docker://example.org/x:1"), 0);
	for (uint32_t i = 0; i < nlayers; i++) {
		snprintf(text, sizeof(text), "layer %u", i);
		r->layers[i] = (struct record_layer){
			.diff_id = digest_for(text),
			.blob = {MEDIA_LAYER_TAR + i % 3, digest_for(name), 1000 + i},
			.size = (uint64_t)1 << (i % 41),
			.proved = i % 2 == 0,
		};
	}
	r->nlayers = nlayers;
	return r;
}

static void assert_same(const struct record *a, const struct record *b)
{
	assert_true(digest_equal(&a->manifest, &b->manifest));
	assert_int_equal(a->manifest_size, b->manifest_size);
	assert_int_equal(a->docker, b->docker);
	assert_int_equal(a->parents, b->parents);
	assert_int_equal(a->config.size, b->config.size);
	assert_int_equal(a->nlayers, b->nlayers);
	assert_int_equal(a->names.n, b->names.n);
	assert_int_equal(a->sources.n, b->sources.n);
	for (size_t i = 0; i < a->names.n; i++)
		assert_string_equal(a->names.v[i], b->names.v[i]);
	for (size_t i = 0; i < a->sources.n; i++)
		assert_string_equal(a->sources.v[i], b->sources.v[i]);
	for (uint32_t i = 0; i < a->nlayers; i++) {
		const struct record_layer *x = &a->layers[i], *y = &b->layers[i];

		assert_true(digest_equal(&x->diff_id, &y->diff_id));
		assert_true(digest_equal(&x->blob.digest, &y->blob.digest));
		assert_int_equal(x->blob.media, y->blob.media);
		assert_int_equal(x->blob.size, y->blob.size);
		assert_int_equal(x->size, y->size);
		assert_int_equal(x->proved, y->proved);
	}
}

static void what_is_written_is_read(void **state)
{
	_cleanup_(record_freep) struct record *r = make("example.org/x:1", LIMIT_LAYERS);
	_cleanup_(record_freep) struct record *back = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_RECORD);
	r->docker = r->parents = true;
	assert_int_equal(record_add_name(r, "a second name"), 0);
	assert_int_equal(record_encode(r, &b), 0);
	assert_int_equal(record_decode(b.data, b.len, "x", &back, NULL), 0);
	assert_same(r, back);
}

static void an_image_without_names_is_one(void **state)
{
	_cleanup_(record_freep) struct record *r = make("x", 1), *back = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_RECORD);
	assert_true(record_drop_name(r, "x"));
	assert_false(record_drop_name(r, "x"));
	assert_int_equal(record_encode(r, &b), 0);
	assert_int_equal(record_decode(b.data, b.len, "x", &back, NULL), 0);
	assert_int_equal(back->names.n, 0);
}

/* The record as text, with the first @from in it replaced by @to; must be refused. */
static void refuse(const char *from, const char *to)
{
	_cleanup_(record_freep) struct record *r = make("x", 2), *back = NULL;
	struct err e = ERR_INIT;
	_cleanup_buf_ struct buf b, changed;
	const char *at;

	buf_init(&b, LIMIT_RECORD);
	buf_init(&changed, LIMIT_RECORD);
	assert_int_equal(record_encode(r, &b), 0);
	at = strstr(buf_cstr(&b), from);
	assert_non_null(at);
	buf_put(&changed, b.data, (size_t)(at - (char *)b.data));
	buf_put_str(&changed, to);
	buf_put_str(&changed, at + strlen(from));
	assert_int_equal(record_decode(changed.data, changed.len, "image x", &back, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "image x"));
	assert_null(back);
}

static void a_damaged_record_is_refused(void **state)
{
	refuse("\"version\": 1", "\"version\": 2");
	refuse("\"names\"", "\"nomes\"");
	refuse("sha256:", "sha255:");
	refuse("\"layers\"", "\"Layers\"");
	refuse("\"size\": 99", "\"size\": -1");
	refuse("\"diff_id\"", "\"diffid\"");
	refuse("application/vnd.oci.image.layer", "application/x-layer");
	refuse("{", "[");
	refuse("\"blob\": {", "\"blob\": 1, \"b\": {");
}

static void a_record_needs_a_layer(void **state)
{
	_cleanup_(record_freep) struct record *r = make("x", 0), *back = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_RECORD);
	assert_int_equal(record_encode(r, &b), 0);
	assert_int_equal(record_decode(b.data, b.len, "x", &back, NULL), -EBADMSG);
}

static void names_are_unique_and_checked(void **state)
{
	_cleanup_(record_freep) struct record *r = make("x", 1);
	char name[32];

	assert_int_equal(record_add_name(r, "x"), 0);
	assert_int_equal(r->names.n, 1);
	assert_int_equal(record_add_name(r, "a\nb"), -EINVAL);
	assert_int_equal(record_add_name(r, ""), -EINVAL);
	for (int i = 1; i < LIMIT_RECORD_NAMES; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		assert_int_equal(record_add_name(r, name), 0);
	}
	assert_int_equal(record_add_name(r, "one more"), -E2BIG);
	assert_true(record_drop_name(r, "name-7"));
	assert_false(record_has_name(r, "name-7"));
	assert_true(record_has_name(r, "name-8"));
	assert_int_equal(record_add_name(r, "one more"), 0);
	assert_null(r->names.v[r->names.n]);
}

static void the_oldest_source_goes(void **state)
{
	_cleanup_(record_freep) struct record *r = make("x", 1);
	char text[32];

	for (int i = 1; i < LIMIT_SOURCES; i++) {
		snprintf(text, sizeof(text), "oci:/s%d", i);
		assert_int_equal(record_add_source(r, text), 0);
	}
	assert_int_equal(r->sources.n, LIMIT_SOURCES);
	/* One that is there becomes the newest, and nothing is lost. */
	assert_int_equal(record_add_source(r, "docker://example.org/x:1"), 0);
	assert_int_equal(r->sources.n, LIMIT_SOURCES);
	assert_string_equal(r->sources.v[LIMIT_SOURCES - 1], "docker://example.org/x:1");
	assert_int_equal(record_add_source(r, "oci:/new"), 0);
	assert_int_equal(r->sources.n, LIMIT_SOURCES);
	assert_string_equal(r->sources.v[0], "oci:/s2");
}

static void scopes(void **state)
{
	_cleanup_(record_freep) struct record *r = make("x", 2);
	struct digest proved = record_scope(r, &r->layers[0]);
	struct digest not = record_scope(r, &r->layers[1]);

	assert_true(digest_is_zero(&proved));
	assert_true(digest_equal(&not, &r->manifest));
}

static void images_are_found(void **state)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	struct record *a = make("a", 1), *b = make("b", 1);
	char text[DIGEST_TEXT];
	struct digest none = digest_for("none");

	assert_int_equal(records_add(&rs, a), 0);
	assert_int_equal(records_add(&rs, b), 0);
	assert_int_equal(record_add_name(b, "sha256:looks-like-it"), 0);
	assert_ptr_equal(records_find(&rs, "a"), a);
	assert_ptr_equal(records_find(&rs, "b"), b);
	assert_ptr_equal(records_find(&rs, "sha256:looks-like-it"), b);
	assert_ptr_equal(records_find(&rs, digest_text(&b->manifest, text)), b);
	assert_ptr_equal(records_by_digest(&rs, &a->manifest), a);
	assert_null(records_find(&rs, digest_text(&none, text)));
	assert_null(records_find(&rs, "A"));
	assert_null(records_find(&rs, ""));
}

static void layers_are_found_by_prefix(void **state)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	struct record *a = make("a", 2), *b = make("b", 2);
	const struct record *of = NULL;
	const struct record_layer *l = NULL;
	char text[DIGEST_TEXT], longest[DIGEST_TEXT + 1];

	a->layers[0].diff_id = digest_like('a', '0');
	a->layers[1].diff_id = digest_like('b', '0');
	b->layers[0].diff_id = digest_like('a', '1');
	b->layers[1].diff_id = digest_like('b', '0');
	a->layers[1].proved = false;
	b->layers[1].proved = true;
	assert_int_equal(records_add(&rs, a), 0);
	assert_int_equal(records_add(&rs, b), 0);

	/* The same layer in both: one, and the proved one. */
	assert_int_equal(records_find_layer(&rs, "bbbbbbbbbbbb", &of, &l, NULL), 0);
	assert_ptr_equal(l, &b->layers[1]);
	assert_ptr_equal(of, b);
	assert_int_equal(records_find_layer(&rs, "sha256:bbbbbbbbbbbb", &of, &l, NULL), 0);
	/* Two that begin alike, until all is given. */
	assert_int_equal(records_find_layer(&rs, "aaaaaaaaaaaa", &of, &l, NULL), -EINVAL);
	digest_text(&b->layers[0].diff_id, text);
	assert_int_equal(records_find_layer(&rs, text, &of, &l, NULL), 0);
	assert_ptr_equal(l, &b->layers[0]);

	assert_int_equal(records_find_layer(&rs, "bbbbbbbbbbb", &of, &l, NULL), -EINVAL);
	assert_int_equal(records_find_layer(&rs, "bbbbbbbbbbbc", &of, &l, NULL), -ENOENT);
	assert_int_equal(records_find_layer(&rs, "BBBBBBBBBBBB", &of, &l, NULL), -ENOENT);
	assert_int_equal(records_find_layer(&rs, "example.org/x", &of, &l, NULL), -ENOENT);
	assert_int_equal(records_find_layer(&rs, "", &of, &l, NULL), -ENOENT);
	snprintf(longest, sizeof(longest), "%s0", text);
	assert_int_equal(records_find_layer(&rs, longest, &of, &l, NULL), -ENOENT);
}

/* What other tools read: our own reader of image layouts must find every name. */
static void the_index_is_a_layout(void **state)
{
	static const struct platform any = {.os = "linux", .arch = "amd64"};
	_cleanup_(records_free) struct records rs = {.n = 0};
	struct record *a = make("a:1", 1), *b = make("b", 1);
	_cleanup_buf_ struct buf out;
	struct descriptor d;

	buf_init(&out, LIMIT_STORE_INDEX);
	assert_int_equal(records_add(&rs, a), 0);
	assert_int_equal(records_add(&rs, b), 0);
	assert_int_equal(record_add_name(a, "other"), 0);
	assert_int_equal(records_index_json(&rs, &out), 0);
	assert_int_equal(layout_index_find(out.data, out.len, "other", "x", &any, &d, NULL), 0);
	assert_true(digest_equal(&d.digest, &a->manifest));
	assert_int_equal(d.size, a->manifest_size);
	assert_int_equal(d.media, MEDIA_MANIFEST);
	assert_int_equal(layout_index_find(out.data, out.len, "b", "x", &any, &d, NULL), 0);
	assert_true(digest_equal(&d.digest, &b->manifest));
	assert_true(layout_index_find(out.data, out.len, "c", "x", &any, &d, NULL) < 0);
}

static void index_json_by_heart(void **state)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	_cleanup_(json_freep) struct json *doc = NULL;
	struct record *a = make("x", 1);
	_cleanup_buf_ struct buf out;
	const struct json *list;

	buf_init(&out, LIMIT_STORE_INDEX);
	assert_int_equal(records_index_json(&rs, &out), 0);
	assert_int_equal(json_parse(out.data, out.len, out.len, "x", &doc, NULL), 0);
	assert_int_equal(json_count(json_get(doc, "manifests")), 0);
	doc = json_free(doc);
	buf_clear(&out);

	a->docker = true;
	record_drop_name(a, "x");
	assert_int_equal(records_add(&rs, a), 0);
	assert_int_equal(records_index_json(&rs, &out), 0);
	assert_int_equal(json_parse(out.data, out.len, out.len, "x", &doc, NULL), 0);
	list = json_get(doc, "manifests");
	assert_int_equal(json_count(list), 1);
	assert_null(json_get(json_at(list, 0), "annotations"));
	assert_string_equal(json_get_str(json_at(list, 0), "mediaType"),
			    "application/vnd.docker.distribution.manifest.v2+json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(an_image_without_names_is_one),
		cmocka_unit_test(a_damaged_record_is_refused),
		cmocka_unit_test(a_record_needs_a_layer),
		cmocka_unit_test(names_are_unique_and_checked),
		cmocka_unit_test(the_oldest_source_goes),
		cmocka_unit_test(scopes),
		cmocka_unit_test(images_are_found),
		cmocka_unit_test(layers_are_found_by_prefix),
		cmocka_unit_test(the_index_is_a_layout),
		cmocka_unit_test(index_json_by_heart),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
