/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"

/* What the reader accepts the writer writes, and to the same bytes: there is one form only. */
static void walk(const uint8_t *toc, size_t len, uint64_t nentries, uint64_t tar_size)
{
	_cleanup_(toc_reader_freep) struct toc_reader *r = NULL;
	_cleanup_buf_ struct buf again;
	struct entry entry;

	buf_init(&again, SIZE_MAX);
	if (toc_reader_new(toc, len, nentries, tar_size, &r) < 0)
		return;
	while (toc_next(r, &entry, NULL) > 0)
		if (toc_put(&again, &entry) < 0 || again.len > len)
			abort();
	if (again.len && memcmp(again.data, toc, again.len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input once as a bare table of contents, once as an index without its checksum. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *sealed = malloc(size + DIGEST_SIZE);
	struct digest sum;
	struct index ix;

	walk(data, size, LIMIT_ENTRIES, LIMIT_TAR_SIZE);
	if (!sealed || digest_of(data, size, &sum) < 0)
		return 0;
	if (size)
		memcpy(sealed, data, size);
	memcpy(sealed + size, sum.sum, DIGEST_SIZE);
	if (index_decode(sealed, size + DIGEST_SIZE, "input", &ix, NULL) < 0)
		return 0;
	if (ix.nspans && index_span_start(&ix, ix.nspans - 1) >= ix.tar_size)
		abort();
	walk(ix.toc, ix.toc_len, ix.nentries, ix.tar_size);
	return 0;
}
