/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yajl/yajl_gen.h>
#include <yajl/yajl_parse.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"

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
enum json_type {
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json {
	const char *key; /* borrowed from text; NULL unless a member of an object */
	union {
		const char *text;           /* string, number: borrowed from text */
		const struct json *members; /* array, object: borrowed from nodes */
	};
	uint32_t key_len;
	uint32_t len; /* bytes of text, or members */
	enum json_type type;
};

struct document {
	struct json root;   /* first: a document is handed out as its root */
	struct json *nodes; /* owned */
	char *text;         /* owned */
};

/* ---- the scan before the parser ------------------------------------------------------------ */

struct scan {
	const uint8_t *start;
	const uint8_t *p;
	const uint8_t *end;
	size_t depth;
	size_t nodes;    /* no document of this text has more values */
	const char *why; /* set: refused at p */
};

/* The value of "\uXXXX" at @p, or -1. */
static int unit_at(const uint8_t *p, const uint8_t *end)
{
	int v = 0;

	if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		int c = p[i] | 0x20;

		if (p[i] >= '0' && p[i] <= '9')
			v = v << 4 | (p[i] - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (c - 'a' + 10);
		else
			return -1;
	}
	return v;
}

/*
 * p is at a backslash in a string. Half a surrogate pair has no UTF-8, and yajl 2.1 drops the
 * character after it (yajl_string_decode), so it is refused here.
 */
static void scan_escape(struct scan *s)
{
	int unit = unit_at(s->p, s->end);

	if (unit >= 0xd800 && unit <= 0xdfff) {
		int low = unit_at(s->p + 6, s->end);

		if (unit >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
			s->why = "half a surrogate pair in a string";
		else
			s->p += 12;
		return;
	}
	s->p += s->end - s->p < 2 ? 1 : 2;
}

/* p is behind the opening quote; leaves it behind the closing one or at the end. */
static void scan_string(struct scan *s)
{
	while (s->p < s->end && !s->why) {
		if (*s->p == '\\')
			scan_escape(s);
		else if (*s->p++ == '"')
			return;
	}
}

/* p is behind a slash: yajl takes comments, so brackets and quotes inside one do not count. */
static void scan_comment(struct scan *s)
{
	const uint8_t *p = s->p;

	if (p < s->end && *p == '/') {
		p = memchr(p, '\n', (size_t)(s->end - p));
		s->p = p ? p : s->end;
	} else if (p < s->end && *p == '*') {
		p = memmem(p + 1, (size_t)(s->end - p - 1), "*/", 2);
		s->p = p ? p + 2 : s->end;
	}
}

static void scan_open(struct scan *s)
{
	_Static_assert(LIMIT_JSON_DEPTH == 32, "the message below names the limit");

	s->nodes++;
	if (++s->depth > LIMIT_JSON_DEPTH)
		s->why = "nested deeper than 32 levels";
}

static void scan_text(struct scan *s)
{
	while (s->p < s->end && !s->why) {
		switch (*s->p++) {
		case '"':
			scan_string(s);
			break;
		case '/':
			scan_comment(s);
			break;
		case '[':
		case '{':
			scan_open(s);
			break;
		case ']':
		case '}':
			s->depth -= s->depth > 0;
			break;
		case ',':
			s->nodes++;
			break;
		}
	}
}

/* ---- UTF-8 --------------------------------------------------------------------------------- */

/*
 * Length of the well-formed sequence at @p, or 0 (Unicode 15, table 3-7: no overlong forms, no
 * surrogates, nothing past U+10FFFF; yajl lets all three pass).
 */
static size_t utf8_len(const uint8_t *p, size_t left)
{
	uint8_t lo = 0x80;
	uint8_t hi = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < n)
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static bool utf8_ok(const uint8_t *p, size_t len)
{
	while (len > 0) {
		size_t n = utf8_len(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

/* ---- building the tree --------------------------------------------------------------------- */

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
	size_t key_len;
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
		.key_len = (uint32_t)b->key_len,
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
	b->key_len = len;
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

static int run_parser(struct builder *b, const uint8_t *data, size_t len, const char *what,
		      struct err *e)
{
	yajl_handle h = yajl_alloc(&callbacks, NULL, b);
	yajl_status status;
	int r = 0;

	if (!h || !yajl_config(h, yajl_allow_comments, 1)) {
		r = err_errno(e, -ENOMEM, "%s", what);
		goto out;
	}
	status = yajl_parse(h, data, len);
	if (status == yajl_status_ok)
		status = yajl_complete_parse(h);
	if (status != yajl_status_ok) {
		size_t at = yajl_get_bytes_consumed(h);
		unsigned char *why = b->why ? NULL : yajl_get_error(h, 0, NULL, 0);

		r = refuse_at(e, what, data, at < len ? at : len,
			      b->why ? b->why
			      : why  ? (const char *)why
				     : "not JSON");
		if (why)
			yajl_free_error(h, why);
	}
out:
	if (h)
		yajl_free(h);
	return r;
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

int json_parse(const void *data, size_t len, size_t max_len, const char *what, struct json **ret,
	       struct err *e)
{
	_cleanup_(document_freep) struct document *doc = NULL;
	struct scan scan = {.start = data, .nodes = 1};
	struct builder b = {0};
	int r;

	/* Lengths are kept in 32 bits. */
	if (len > max_len || len >= UINT32_MAX)
		return err_set(e, -EFBIG, "%s: %zu bytes are more than the limit of %zu", what, len,
			       max_len);
	scan.start = scan.p = len ? data : (const uint8_t *)"";
	scan.end = scan.p + len;
	scan_text(&scan);
	if (scan.why)
		return refuse_at(e, what, scan.start, (size_t)(scan.p - scan.start), scan.why);

	doc = calloc(1, sizeof(*doc));
	if (!doc)
		return err_errno(e, -ENOMEM, "%s", what);
	doc->nodes = calloc(scan.nodes, sizeof(*doc->nodes));
	doc->text = malloc(len + 1);
	if (!doc->nodes || !doc->text)
		return err_errno(e, -ENOMEM, "%s", what);
	b.nodes = doc->nodes;
	b.settled = scan.nodes;
	b.text = doc->text;
	b.text_max = len + 1;
	r = run_parser(&b, scan.start, len, what, e);
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

/* ---- reading ------------------------------------------------------------------------------- */

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

/* ---- writing ------------------------------------------------------------------------------- */

struct json_gen {
	yajl_gen gen;    /* owned */
	struct buf *out; /* borrowed */
};

static void print(void *ctx, const char *p, size_t len)
{
	(void)buf_put(ctx, p, len);
}

struct json_gen *json_gen_new(struct buf *out, bool pretty)
{
	struct json_gen *g = calloc(1, sizeof(*g));

	if (g)
		g->gen = yajl_gen_alloc(NULL);
	if (!g || !g->gen) {
		out->failed = -ENOMEM;
		return json_gen_free(g);
	}
	g->out = out;
	yajl_gen_config(g->gen, yajl_gen_beautify, (int)pretty);
	yajl_gen_config(g->gen, yajl_gen_indent_string, "  ");
	yajl_gen_config(g->gen, yajl_gen_print_callback, print, out);
	return g;
}

struct json_gen *json_gen_free(struct json_gen *g)
{
	if (!g)
		return NULL;
	if (g->gen)
		yajl_gen_free(g->gen);
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
