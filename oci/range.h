/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_RANGE_H
#define OCI_RANGE_H

#include <stdbool.h>
#include <stdint.h>

/* "bytes FIRST-LAST/TOTAL" or "bytes FIRST-LAST/STAR" (RFC 9110, 14.4), taken apart. */
struct content_range {
	uint64_t first;
	uint64_t last;
	uint64_t total; /* UINT64_MAX for '*' */
};

/* -EPROTO for any other text, numbers past 63 bits, FIRST > LAST and LAST >= TOTAL. */
int content_range_parse(const char *text, struct content_range *ret);

/* True when @text is exactly bytes [@off, @off + @len) of @size (or of a size not told). */
bool content_range_is(const char *text, uint64_t off, uint64_t len, uint64_t size);

#endif
