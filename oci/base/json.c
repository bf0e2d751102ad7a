/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_parse.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_mem.h"
#include "oci/base/json_node.h"
#include "oci/base/json_scan.h"
#include "oci/base/limits.h"
#include "oci/base/utf8.h"

/*
 * How a document is held
 *
 * yajl's own tree keeps strings without their length, so a "\u0000" in one can not be seen any
 * more. Hence its event parser, and a tree of ours, in two allocations whose sizes are known
 * before the parser starts:
 *
 *	text	decoded strings, keys and number texts, each with a NUL. Decoding never makes a
 *		string longer, and the NUL takes the place of a quote or of what ends a number.
 *	nodes	one per value. A scan counts '[', '{' and ',' outside of strings: with one for the
 *		document itself, there can not be more values than that.
 *
 * While a container is open its members wait at the front of nodes; when it is closed they move
 * as one run to the free end at the back, where they stay. Members are thus an array, and
 * getting the i-th costs nothing.
 */
struct document {
	struct json root;   /* first: a document is handed out as its root */
	struct json *nodes; /* owned */
	char *text;         /* owned */
};

struct builder {
	struct json *nodes; /* borrowed from the document, as is text */
	size_t waiting;     /* nodes at the front: open containers and their members so far */
	size_t settled;     /* nodes from here on are final */
	char *text;
	size_t text_len;
	size_t text_max;
	size_t open[LIMIT_JSON_DEPTH]; /* index of each open container in nodes */
	size_t depth;
	const char *key; /* of the value that comes next */
	const char *why; /* set: refused by us, not by yajl */
};

static int refuse(struct builder *b, const char *why)
{
	b->why = why;
	return 0;
}

static const char *keep_text(struct builder *b, const void *p, size_t len)
{
	char *dst = b->text + b->text_len;

	if (len >= b->text_max - b->text_len) {
		refuse(b, "more text than bytes");
		return NULL;
	}
	memcpy(dst, p, len);
	dst[len] = '\0';
	b->text_len += len + 1;
	return dst;
}

static int add_node(struct builder *b, enum json_type type, const char *text, size_t len)
{
	if (b->waiting >= b->settled)
		return refuse(b, "more values than commas allow");
	b->nodes[b->waiting++] = (struct json){
		.key = take_ptr(b->key),
		.text = text,
		.len = (uint32_t)len,
		.type = type,
	};
	return 1;
}

static int add_text(struct builder *b, enum json_type type, const void *p, size_t len)
{
	const char *text = keep_text(b, p, len);

	return text ? add_node(b, type, text, len) : 0;
}

static int open_container(struct builder *b, enum json_type type)
{
	if (b->depth >= LIMIT_JSON_DEPTH)
		return refuse(b, "nested too deep");
	b->open[b->depth++] = b->waiting;
	return add_node(b, type, NULL, 0);
}

static int close_container(void *ctx)
{
	struct builder *b = ctx;
	size_t at = b->open[--b->depth];
	size_t n = b->waiting - at - 1;

	b->settled -= n;
	b->waiting -= n;
	memmove(b->nodes + b->settled, b->nodes + at + 1, n * sizeof(*b->nodes));
	b->nodes[at].members = b->nodes + b->settled;
	b->nodes[at].len = (uint32_t)n;
	return 1;
}

static int on_null(void *ctx)
{
	return add_node(ctx, JSON_NULL, NULL, 0);
}

static int on_bool(void *ctx, int value)
{
	return add_node(ctx, value ? JSON_TRUE : JSON_FALSE, NULL, 0);
}

static int on_number(void *ctx, const char *p, size_t len)
{
	return add_text(ctx, JSON_NUMBER, p, len);
}

static int on_string(void *ctx, const unsigned char *p, size_t len)
{
	if (!utf8_ok(p, len))
		return refuse(ctx, "a string is not UTF-8");
	return add_text(ctx, JSON_STRING, p, len);
}

static int on_key(void *ctx, const unsigned char *p, size_t len)
{
	struct builder *b = ctx;

	if (!utf8_ok(p, len))
		return refuse(b, "a key is not UTF-8");
	/* Cut at the NUL it would be taken for another key. */
	if (memchr(p, '\0', len))
		return refuse(b, "a key holds a NUL");
	b->key = keep_text(b, p, len);
	return b->key != NULL;
}

static int on_open_map(void *ctx)
{
	return open_container(ctx, JSON_OBJECT);
}

static int on_open_array(void *ctx)
{
	return open_container(ctx, JSON_ARRAY);
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_bool,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_open_map,
	.yajl_map_key = on_key,
	.yajl_end_map = close_container,
	.yajl_start_array = on_open_array,
	.yajl_end_array = close_container,
};

static int refuse_at(struct err *e, const char *what, const uint8_t *data, size_t at,
		     const char *why)
{
	size_t line = 1;

	for (size_t i = 0; i < at; i++)
		line += data[i] == '\n';
	return err_set(e, -EINVAL, "%s: bad JSON in line %zu, byte %zu: %.*s", what, line, at,
		       (int)strcspn(why, "\n"), why);
}

struct parse {
	struct builder *b;
	struct json_mem mem;
	const uint8_t *data;
	size_t len;
	const char *what;
	struct err *e;
};

static int parse(void *ctx)
{
	struct parse *p = ctx;
	yajl_handle h = yajl_alloc(&callbacks, &p->mem.funcs, p->b);
	yajl_status status;
	const char *why;
	size_t at;

	yajl_config(h, yajl_allow_comments, 1);
	status = yajl_parse(h, p->data, p->len);
	at = yajl_get_bytes_consumed(h);
	if (status == yajl_status_ok) {
		status = yajl_complete_parse(h);
		at = p->len;
	}
	if (status == yajl_status_ok)
		return 0;
	why = p->b->why;
	if (!why)
		why = (const char *)yajl_get_error(h, 0, NULL, 0);
	return refuse_at(p->e, p->what, p->data, at < p->len ? at : p->len, why);
}

static int run_parser(struct builder *b, const uint8_t *data, size_t len, const char *what,
		      struct err *e)
{
	struct parse p = {.b = b, .data = data, .len = len, .what = what, .e = e};
	int r;

	json_mem_init(&p.mem);
	r = json_mem_run(&p.mem, parse, &p);
	json_mem_free(&p.mem);
	return r == -ENOMEM ? err_errno(e, r, "%s", what) : r;
}

static struct json *document_free(struct document *doc)
{
	if (!doc)
		return NULL;
	free(doc->nodes);
	free(doc->text);
	free(doc);
	return NULL;
}

DEFINE_CLEANUP(struct document, document_free)

static struct document *document_new(size_t nodes, size_t text)
{
	_cleanup_(document_freep) struct document *doc = calloc(1, sizeof(*doc));

	if (!doc)
		return NULL;
	/* Pages of nodes that turn out not to be needed are never touched. */
	doc->nodes = calloc(nodes, sizeof(*doc->nodes));
	doc->text = malloc(text);
	return doc->nodes && doc->text ? take_ptr(doc) : NULL;
}

int json_parse(const void *data, size_t len, size_t max_len, const char *what, struct json **ret,
	       struct err *e)
{
	_cleanup_(document_freep) struct document *doc = NULL;
	const uint8_t *text = len ? data : (const uint8_t *)"";
	struct builder b = {0};
	const char *why;
	size_t n;
	int r;

	/* Lengths are kept in 32 bits. */
	if (len > max_len || len >= UINT32_MAX)
		return err_set(e, -EFBIG, "%s: %zu bytes are more than the limit of %zu", what, len,
			       max_len);
	why = json_scan(text, len, &n);
	if (why)
		return refuse_at(e, what, text, n, why);
	doc = document_new(n, len + 1);
	if (!doc)
		return err_errno(e, -ENOMEM, "%s", what);
	b.nodes = doc->nodes;
	b.settled = n;
	b.text = doc->text;
	b.text_max = len + 1;
	r = run_parser(&b, text, len, what, e);
	if (r < 0)
		return r;
	doc->root = doc->nodes[0];
	*ret = &take_ptr(doc)->root;
	return 0;
}

struct json *json_free(struct json *doc)
{
	return document_free((struct document *)doc);
}

static bool is_type(const struct json *v, enum json_type type)
{
	return v && v->type == type;
}

bool json_is_object(const struct json *v)
{
	return is_type(v, JSON_OBJECT);
}

bool json_is_array(const struct json *v)
{
	return is_type(v, JSON_ARRAY);
}

bool json_is_null(const struct json *v)
{
	return is_type(v, JSON_NULL);
}

const struct json *json_get(const struct json *v, const char *key)
{
	if (!json_is_object(v))
		return NULL;
	for (size_t i = 0; i < v->len; i++)
		if (strcmp(v->members[i].key, key) == 0)
			return &v->members[i];
	return NULL;
}

const char *json_str(const struct json *v)
{
	return is_type(v, JSON_STRING) && !memchr(v->text, '\0', v->len) ? v->text : NULL;
}

bool json_int(const struct json *v, int64_t *ret)
{
	long long value;
	char *end;

	_Static_assert(sizeof(value) == sizeof(*ret),
		       "strtoll() refuses what int64_t can not hold");
	if (!is_type(v, JSON_NUMBER))
		return false;
	errno = 0;
	value = strtoll(v->text, &end, 10);
	/* A fraction or an exponent is left over: not an integer, even where its value is one. */
	if (errno || *end)
		return false;
	*ret = value;
	return true;
}

bool json_bool(const struct json *v, bool fallback)
{
	if (is_type(v, JSON_TRUE))
		return true;
	return is_type(v, JSON_FALSE) ? false : fallback;
}

size_t json_count(const struct json *v)
{
	return json_is_array(v) || json_is_object(v) ? v->len : 0;
}

const struct json *json_at(const struct json *v, size_t i)
{
	return json_is_array(v) && i < v->len ? &v->members[i] : NULL;
}

const char *json_key_at(const struct json *v, size_t i)
{
	return json_is_object(v) && i < v->len ? v->members[i].key : NULL;
}

const struct json *json_value_at(const struct json *v, size_t i)
{
	return json_is_object(v) && i < v->len ? &v->members[i] : NULL;
}

const char *json_get_str(const struct json *v, const char *key)
{
	return json_str(json_get(v, key));
}

bool json_get_int(const struct json *v, const char *key, int64_t *ret)
{
	return json_int(json_get(v, key), ret);
}
