/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/json_scan.h"

#include <string.h>

#include "oci/base/limits.h"

struct scan {
	const uint8_t *p;
	const uint8_t *end;
	size_t depth;
	size_t values;
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

	s->values++;
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
			s->values++;
			break;
		}
	}
}

const char *json_scan(const uint8_t *data, size_t len, size_t *ret_value)
{
	struct scan s = {.p = data, .end = data + len, .values = 1};

	scan_text(&s);
	*ret_value = s.why ? (size_t)(s.p - data) : s.values;
	return s.why;
}
