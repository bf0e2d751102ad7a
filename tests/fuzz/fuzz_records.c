/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/store/pins.h"
#include "plugin/store/record.h"
#include "plugin/store/sources.h"

/* What is read can be written, read again, and is then written to the same bytes. */
static void same(const struct buf *first, const struct buf *second)
{
	if (first->failed || second->failed || first->len != second->len ||
	    memcmp(first->data, second->data, first->len) != 0)
		abort();
}

static void pins(const uint8_t *data, size_t size)
{
	_cleanup_pins_ struct pins ps = {.v = NULL};
	_cleanup_pins_ struct pins again = {.v = NULL};
	_cleanup_buf_ struct buf first, second;

	buf_init(&first, SIZE_MAX);
	buf_init(&second, SIZE_MAX);
	if (pins_decode(data, size, &ps, NULL) < 0)
		return;
	if (pins_encode(&ps, &first) < 0 || pins_decode(first.data, first.len, &again, NULL) < 0 ||
	    pins_encode(&again, &second) < 0)
		abort();
	same(&first, &second);
}

static void record(const uint8_t *data, size_t size)
{
	_cleanup_(record_freep) struct record *rec = NULL;
	_cleanup_(record_freep) struct record *again = NULL;
	_cleanup_buf_ struct buf first, second;

	buf_init(&first, SIZE_MAX);
	buf_init(&second, SIZE_MAX);
	if (record_decode(data, size, "input", &rec, NULL) < 0)
		return;
	if (rec->nlayers == 0 || rec->nlayers > LIMIT_LAYERS)
		abort();
	if (record_encode(rec, &first) < 0 ||
	    record_decode(first.data, first.len, "copy", &again, NULL) < 0 ||
	    record_encode(again, &second) < 0)
		abort();
	same(&first, &second);
}

static void sources(const uint8_t *data, size_t size)
{
	_cleanup_(sources_free) struct sources s = {.n = 0};
	_cleanup_(sources_free) struct sources again = {.n = 0};
	_cleanup_buf_ struct buf first, second;

	buf_init(&first, SIZE_MAX);
	buf_init(&second, SIZE_MAX);
	if (sources_decode(data, size, "input", &s, NULL) < 0)
		return;
	if (sources_encode(&s, &first) < 0 ||
	    sources_decode(first.data, first.len, "copy", &again, NULL) < 0 ||
	    sources_encode(&again, &second) < 0)
		abort();
	same(&first, &second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The JSON files of a store: pins.json, an image's record, a layer's sources. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	pins(data, size);
	record(data, size);
	sources(data, size);
	return 0;
}
