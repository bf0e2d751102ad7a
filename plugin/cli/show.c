/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/show.h"

#include <stdio.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/json.h"
#include "oci/base/utf8.h"

const char *show_size(uint64_t bytes, char out[SHOW_MAX])
{
	static const char unit[] = "KMGTPE";
	uint64_t tenths;
	size_t u = 0;

	if (bytes < 1024) {
		snprintf(out, SHOW_MAX, "%u", (unsigned)bytes);
		return out;
	}
	/* Tenths of the unit, rounded; 1023.95K is 1.0M. */
	while (u + 1 < sizeof(unit) - 1 && bytes >= (1024 * 1024 - 1024 / 20)) {
		bytes >>= 10;
		u++;
	}
	tenths = (bytes * 10 + 512) / 1024;
	snprintf(out, SHOW_MAX, "%llu.%u%c", (unsigned long long)(tenths / 10),
		 (unsigned)(tenths % 10), unit[u]);
	return out;
}

const char *show_time(uint64_t s, char out[SHOW_MAX])
{
	unsigned long long d = s / 86400, h = s / 3600 % 24, m = s / 60 % 60;

	if (d > 0)
		snprintf(out, SHOW_MAX, "%llud %lluh", d, h);
	else if (h > 0)
		snprintf(out, SHOW_MAX, "%lluh %llum", h, m);
	else if (m > 0)
		snprintf(out, SHOW_MAX, "%llum %llus", m, (unsigned long long)(s % 60));
	else
		snprintf(out, SHOW_MAX, "%llus", (unsigned long long)s);
	return out;
}

const char *show_digest(const char *text, char out[SHOW_MAX])
{
	snprintf(out, SHOW_MAX, "%.*s", strncmp(text, "sha256:", 7) == 0 ? 19 : SHOW_MAX - 1, text);
	return out;
}

const char *show_str(const struct json *v, const char *key)
{
	const char *s = json_get_str(v, key);

	return s && s[0] ? s : "-";
}

uint64_t show_int(const struct json *v, const char *key)
{
	int64_t n = 0;

	json_get_int(v, key, &n);
	return n < 0 ? 0 : (uint64_t)n;
}

void show_clean(struct buf *b, const char *s)
{
	const uint8_t *p = (const uint8_t *)s;
	size_t left = strlen(s);

	while (left > 0) {
		size_t n = utf8_len(p, left);
		/* U+0080 to U+009F are control characters too. */
		bool bad = n == 0 || *p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0);

		if (n == 0)
			n = 1;
		buf_put(b, bad ? (const uint8_t *)"?" : p, bad ? 1 : n);
		p += n;
		left -= n;
	}
}
