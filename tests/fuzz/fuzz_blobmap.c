/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/index/blobmap.h"

static void look(const struct blobmap *m, struct checkpoint *cp)
{
	for (uint32_t i = 0; i < blobmap_nspans(m); i++) {
		struct blobmap_span s = blobmap_span(m, i);
		uint64_t in = blobmap_point_in(m, s.point);

		if (in > s.in_end || s.in_end > blobmap_blob_size(m))
			abort();
		if (blobmap_point_out(m, s.point) > (uint64_t)i * blobmap_span_size(m))
			abort();
		if (blobmap_checkpoint(m, s.point, cp) < 0)
			continue;
		if (cp->window_len > CODEC_WINDOW || cp->in - (cp->bits ? 1 : 0) != in)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A map without its checksum, which no fuzzer would find. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *sealed = malloc(size + DIGEST_SIZE);
	_cleanup_free_ struct checkpoint *cp = malloc(sizeof(*cp));
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	struct digest sum;

	if (!sealed || !cp || digest_of(data, size, &sum) < 0)
		return 0;
	if (size)
		memcpy(sealed, data, size);
	memcpy(sealed + size, sum.sum, DIGEST_SIZE);
	if (blobmap_decode(sealed, size + DIGEST_SIZE, "input", &m, NULL) == 0)
		look(m, cp);
	return 0;
}
