/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/tarhead.h"

#include <stdbool.h>
#include <string.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/limits.h"

/* POSIX ustar, all variants: where the fields are in the 512-byte block. */
#define BLOCK    512
#define AT_SIZE  124
#define LEN_SIZE 12
#define AT_TYPE  156

static const char sparse[] = "it is a sparse file, its data is not in one piece in the tar";
static const char bad_pax[] = "its PAX header is damaged";

/* Octal digits, or with the first bit set a base-256 number (GNU, star). */
static uint64_t header_size(const uint8_t *block)
{
	const uint8_t *p = block + AT_SIZE;
	uint64_t v = 0;

	if (p[0] & 0x80) {
		for (size_t i = 1; i < LEN_SIZE; i++)
			v = v << 8 | p[i];
		return v;
	}
	for (size_t i = 0; i < LEN_SIZE; i++) {
		if (p[i] >= '0' && p[i] <= '7')
			v = v << 3 | (uint64_t)(p[i] - '0');
		else if (p[i] != ' ' || v > 0)
			break;
	}
	return v;
}

static bool key_is(const char *key, size_t len, const char *want)
{
	return len == strlen(want) && memcmp(key, want, len) == 0;
}

/* One record, "key=value", without its length and its newline. */
static const char *check_record(const char *record, size_t len)
{
	static const char gnu_sparse[] = "GNU.sparse.";
	const char *eq = memchr(record, '=', len);
	size_t key_len, value_len;

	if (!eq || eq == record)
		return bad_pax;
	key_len = (size_t)(eq - record);
	value_len = len - key_len - 1;
	if (memchr(record, '\0', key_len))
		return "there is a NUL in the name of a PAX attribute";
	if ((key_is(record, key_len, "path") || key_is(record, key_len, "linkpath")) &&
	    memchr(eq + 1, '\0', value_len))
		return "there is a NUL in its path or link target";
	if (key_len > strlen(gnu_sparse) && memcmp(record, gnu_sparse, strlen(gnu_sparse)) == 0)
		return sparse;
	if (key_is(record, key_len, "SUN.holesdata") || key_is(record, key_len, "SCHILY.realsize"))
		return sparse;
	return NULL;
}

/* Records "<decimal length of all of it> key=value\n" up to the end of the body. */
static const char *check_pax(const char *body, size_t len)
{
	while (len > 0) {
		size_t total = 0, digits = 0;
		const char *why;

		while (digits < len && digits < 8 && body[digits] >= '0' && body[digits] <= '9')
			total = total * 10 + (size_t)(body[digits++] - '0');
		if (digits == 0 || digits >= len || body[digits] != ' ')
			return bad_pax;
		if (total > len || total < digits + 2 || body[total - 1] != '\n')
			return bad_pax;
		why = check_record(body + digits + 1, total - digits - 2);
		if (why)
			return why;
		body += total;
		len -= total;
	}
	return NULL;
}

/* Whether a header of this type describes another one, with a body that is read at once. */
static bool is_special(char type)
{
	return type && strchr("xXgLKA", type) != NULL;
}

static const char *check_type(char type)
{
	if (type == 'S')
		return sparse;
	if (strchr("01234567", type) != NULL)
		return NULL;
	return "its type is not one that image layers have";
}

const char *tarhead_check(const uint8_t *raw, size_t len, char *ret_type)
{
	struct bytes in = bytes_of(raw, len);

	while (in.left > 0) {
		const uint8_t *block = bytes_take(&in, BLOCK);
		const uint8_t *body;
		const char *why;
		uint64_t size;
		char type;

		if (!block)
			break;
		type = block[AT_TYPE] ? (char)block[AT_TYPE] : '0';
		if (type == 'V') /* a volume label: libarchive goes on to the next block */
			continue;
		if (!is_special(type)) {
			why = check_type(type);
			if (!why && in.left > 0)
				why = "its header does not end where its data starts";
			if (!why)
				*ret_type = type;
			return why;
		}
		size = header_size(block);
		if (size > LIMIT_TAR_HEADERS)
			break;
		body = bytes_take(&in, (size_t)round_up(size, BLOCK));
		if (!body)
			break;
		why = type == 'x' || type == 'X' ? check_pax((const char *)body, size) : NULL;
		if (why)
			return why;
	}
	return "its header is damaged";
}
