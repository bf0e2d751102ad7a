/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_JSON_H
#define OCI_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct err;

/*
 * json.c and json_gen.c are the only files that know yajl. Reading: a size cap and a depth cap
 * are applied before the library sees a byte (it has neither); text must be UTF-8; comments are
 * allowed; duplicate keys: the first counts; a NUL in a key is refused.
 * Everything returned is borrowed from the document and lives until json_free().
 */
struct json; /* a document or a value inside one */

/* @what names the input in errors ("manifest sha256:…"). -EINVAL, -EFBIG or -ENOMEM. */
int json_parse(const void *data, size_t len, size_t max_len, const char *what, struct json **ret,
	       struct err *e);
struct json *json_free(struct json *doc); /* NULL-safe; only for a document; returns NULL */

static inline void json_freep(struct json **j)
{
	json_free(*j);
}

/* All accessors take NULL and a value of another type, and then say "not there". */
const struct json *json_get(const struct json *v, const char *key);
const char *json_str(const struct json *v); /* NULL unless a string without NUL bytes */
bool json_int(const struct json *v, int64_t *ret);
bool json_bool(const struct json *v, bool fallback);
bool json_is_object(const struct json *v);
bool json_is_array(const struct json *v);
bool json_is_null(const struct json *v); /* there, and null */
size_t json_count(const struct json *v); /* members of an array or object */
const struct json *json_at(const struct json *v, size_t i);
const char *json_key_at(const struct json *v, size_t i);
const struct json *json_value_at(const struct json *v, size_t i);

/* Shorthands for a member of an object. */
const char *json_get_str(const struct json *v, const char *key);
bool json_get_int(const struct json *v, const char *key, int64_t *ret);

/*
 * Writing: a generator that appends to a buffer. Errors are sticky in the buffer. Pass
 * pretty = true for files people read. Strings that are not UTF-8 are written with U+FFFD in
 * place of each bad byte, so that what we print can always be parsed.
 */
struct json_gen;
struct json_gen *json_gen_new(struct buf *out, bool pretty); /* @out is borrowed */
struct json_gen *json_gen_free(struct json_gen *g);

static inline void json_gen_freep(struct json_gen **g)
{
	json_gen_free(*g);
}

void json_open_map(struct json_gen *g, const char *key); /* key NULL inside arrays and at top */
void json_close_map(struct json_gen *g);
void json_open_array(struct json_gen *g, const char *key);
void json_close_array(struct json_gen *g);
void json_put_str(struct json_gen *g, const char *key, const char *value); /* NULL value: null */
void json_put_int(struct json_gen *g, const char *key, int64_t value);
void json_put_bool(struct json_gen *g, const char *key, bool value);
/* Copies a parsed value as it is, so that a document can be edited without being understood. */
void json_put_value(struct json_gen *g, const char *key, const struct json *value);

#endif
