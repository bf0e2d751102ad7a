/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_gen.h>

#include "oci/base/buf.h"
#include "oci/base/json_mem.h"
#include "oci/base/json_node.h"
#include "oci/base/utf8.h"

struct json_gen {
	yajl_gen gen; /* in mem */
	struct json_mem mem;
	struct buf *out; /* borrowed */
	bool pretty;
};

static void print(void *ctx, const char *p, size_t len)
{
	(void)buf_put(ctx, p, len);
}

/* What it prints needs no memory of its own. */
static int make(void *ctx)
{
	struct json_gen *g = ctx;

	g->gen = yajl_gen_alloc(&g->mem.funcs);
	yajl_gen_config(g->gen, yajl_gen_beautify, (int)g->pretty);
	yajl_gen_config(g->gen, yajl_gen_indent_string, "  ");
	yajl_gen_config(g->gen, yajl_gen_print_callback, print, g->out);
	return 0;
}

struct json_gen *json_gen_new(struct buf *out, bool pretty)
{
	struct json_gen *g = calloc(1, sizeof(*g));
	int r = g ? 0 : -ENOMEM;

	if (g) {
		json_mem_init(&g->mem);
		g->out = out;
		g->pretty = pretty;
		r = json_mem_run(&g->mem, make, g);
	}
	if (r == 0)
		return g;
	out->failed = r;
	return json_gen_free(g);
}

struct json_gen *json_gen_free(struct json_gen *g)
{
	if (!g)
		return NULL;
	json_mem_free(&g->mem);
	free(g);
	return NULL;
}

/* A call that does not fit here (a value without a key, one too many) is sticky as well. */
static void check(struct json_gen *g, yajl_gen_status status)
{
	if (status != yajl_gen_status_ok && !g->out->failed)
		g->out->failed = -EINVAL;
}

static void put_repaired(struct json_gen *g, const uint8_t *p, size_t len)
{
	_cleanup_buf_ struct buf fixed;

	buf_init(&fixed, SIZE_MAX);
	while (len > 0) {
		size_t n = utf8_len(p, len);

		if (n > 0)
			(void)buf_put(&fixed, p, n);
		else
			(void)buf_put_str(&fixed, "\xef\xbf\xbd");
		n = n ? n : 1;
		p += n;
		len -= n;
	}
	if (fixed.failed)
		g->out->failed = fixed.failed;
	else
		check(g, yajl_gen_string(g->gen, fixed.data, fixed.len));
}

static void put_bytes(struct json_gen *g, const char *s, size_t len)
{
	const uint8_t *p = (const uint8_t *)s;

	if (utf8_ok(p, len))
		check(g, yajl_gen_string(g->gen, p, len));
	else
		put_repaired(g, p, len);
}

/* True when the caller may go on with the value of @key. */
static bool put_key(struct json_gen *g, const char *key)
{
	if (!g || g->out->failed)
		return false;
	if (key)
		put_bytes(g, key, strlen(key));
	return !g->out->failed;
}

void json_open_map(struct json_gen *g, const char *key)
{
	if (put_key(g, key))
		check(g, yajl_gen_map_open(g->gen));
}

void json_close_map(struct json_gen *g)
{
	if (put_key(g, NULL))
		check(g, yajl_gen_map_close(g->gen));
}

void json_open_array(struct json_gen *g, const char *key)
{
	if (put_key(g, key))
		check(g, yajl_gen_array_open(g->gen));
}

void json_close_array(struct json_gen *g)
{
	if (put_key(g, NULL))
		check(g, yajl_gen_array_close(g->gen));
}

void json_put_str(struct json_gen *g, const char *key, const char *value)
{
	if (!put_key(g, key))
		return;
	if (value)
		put_bytes(g, value, strlen(value));
	else
		check(g, yajl_gen_null(g->gen));
}

void json_put_int(struct json_gen *g, const char *key, int64_t value)
{
	if (put_key(g, key))
		check(g, yajl_gen_integer(g->gen, value));
}

void json_put_bool(struct json_gen *g, const char *key, bool value)
{
	if (put_key(g, key))
		check(g, yajl_gen_bool(g->gen, value));
}

static void put_members(struct json_gen *g, const struct json *v)
{
	for (size_t i = 0; i < v->len && !g->out->failed; i++)
		json_put_value(g, v->members[i].key, &v->members[i]);
}

/* Recursion ends at LIMIT_JSON_DEPTH: nothing deeper was let in. */
void json_put_value(struct json_gen *g, const char *key, const struct json *value)
{
	enum json_type type = value ? value->type : JSON_NULL;

	if (!put_key(g, key))
		return;
	switch (type) {
	case JSON_NULL:
		check(g, yajl_gen_null(g->gen));
		break;
	case JSON_FALSE:
	case JSON_TRUE:
		check(g, yajl_gen_bool(g->gen, type == JSON_TRUE));
		break;
	case JSON_NUMBER:
		check(g, yajl_gen_number(g->gen, value->text, value->len));
		break;
	case JSON_STRING:
		put_bytes(g, value->text, value->len);
		break;
	case JSON_ARRAY:
		check(g, yajl_gen_array_open(g->gen));
		put_members(g, value);
		check(g, yajl_gen_array_close(g->gen));
		break;
	case JSON_OBJECT:
		check(g, yajl_gen_map_open(g->gen));
		put_members(g, value);
		check(g, yajl_gen_map_close(g->gen));
		break;
	}
}
