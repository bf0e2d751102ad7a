/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "plugin/store/present.h"

#define SPANS_MAX 65536

/* There is one form only: what is read is what would be written. */
static void check(const struct present *p, const uint8_t *data, size_t len)
{
	_cleanup_buf_ struct buf again;

	buf_init(&again, SIZE_MAX);
	if (present_encode(p, &again) < 0)
		return;
	if (again.len != len || memcmp(again.data, data, len) != 0)
		abort();
	for (uint32_t i = 0; i < p->nspans; i++)
		if (present_bit(p->durable, i) && present_bit(p->maybe, i))
			abort();
}

/* The layer is the one that the file claims to be of, where that is possible. */
static void claimed(const uint8_t *data, size_t size, struct digest *diff_id, uint32_t *nspans)
{
	struct bytes b = bytes_of(data, size);

	bytes_take(&b, 16);
	bytes_copy(&b, diff_id->sum, DIGEST_SIZE);
	*nspans = (uint32_t)bytes_le(&b, 4);
	if (*nspans > SPANS_MAX)
		*nspans = SPANS_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A present file without its checksum, which no fuzzer would find. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *sealed = malloc(size + DIGEST_SIZE);
	_cleanup_(present_free) struct present p = {.nspans = 0};
	struct err e = ERR_INIT;
	struct digest sum, diff_id;
	uint32_t nspans;

	if (!sealed || digest_of(data, size, &sum) < 0)
		return 0;
	claimed(data, size, &diff_id, &nspans);
	if (size)
		memcpy(sealed, data, size);
	memcpy(sealed + size, sum.sum, DIGEST_SIZE);
	if (present_decode(sealed, size + DIGEST_SIZE, &diff_id, nspans, &p, &e) == 0)
		check(&p, sealed, size + DIGEST_SIZE);
	else if (!*e.text)
		abort();
	return 0;
}
