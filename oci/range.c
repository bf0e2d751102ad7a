/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/range.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <strings.h>

/* Digits at *@p, at least one, below 2^63. */
static bool read_number(const char **p, uint64_t *ret)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)**p))
		return false;
	for (; isdigit((unsigned char)**p); (*p)++) {
		uint64_t digit = (uint64_t)(**p - '0');

		if (v > (INT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*ret = v;
	return true;
}

static bool read_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

int content_range_parse(const char *p, struct content_range *ret)
{
	struct content_range c = {.total = UINT64_MAX};

	if (strncasecmp(p, "bytes ", 6) != 0)
		return -EPROTO;
	p += 6;
	if (!read_number(&p, &c.first) || !read_char(&p, '-') || !read_number(&p, &c.last) ||
	    !read_char(&p, '/'))
		return -EPROTO;
	if (!read_char(&p, '*') && !read_number(&p, &c.total))
		return -EPROTO;
	if (*p || c.first > c.last || c.last >= c.total)
		return -EPROTO;
	*ret = c;
	return 0;
}

bool content_range_is(const char *text, uint64_t off, uint64_t len, uint64_t size)
{
	struct content_range c;

	if (!text || len == 0 || content_range_parse(text, &c) < 0)
		return false;
	return c.first == off && c.last - c.first == len - 1 &&
	       (c.total == size || c.total == UINT64_MAX);
}
