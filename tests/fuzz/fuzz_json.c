/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"

/* A copy through the generator. What we read we must be able to write. */
static void copy(const struct json *doc, struct buf *out, bool pretty)
{
	_cleanup_(json_gen_freep) struct json_gen *g = json_gen_new(out, pretty);

	json_put_value(g, NULL, doc);
	if (out->failed)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever is accepted survives a copy, and the copy of the copy is the same to the byte. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_(json_freep) struct json *again = NULL;
	_cleanup_buf_ struct buf first;
	_cleanup_buf_ struct buf second;

	buf_init(&first, SIZE_MAX);
	buf_init(&second, SIZE_MAX);
	if (json_parse(data, size, LIMIT_MANIFEST, "input", &doc, NULL) < 0)
		return 0;
	copy(doc, &first, true);
	if (json_parse(first.data, first.len, SIZE_MAX, "copy", &again, NULL) < 0)
		abort();
	buf_clear(&first);
	copy(doc, &first, false);
	copy(again, &second, false);
	if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
		abort();
	return 0;
}
