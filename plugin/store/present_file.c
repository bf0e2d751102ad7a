/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/store/present.h"

static const uint8_t magic[8] = {'T', 'A', 'R', 'N', 'P', 'R', 'S', 1};

int present_new(const struct digest *diff_id, uint32_t nspans, struct present *ret)
{
	struct present p = {.diff_id = *diff_id, .nspans = nspans};
	size_t n = present_bytes(nspans);

	p.durable = calloc(1, n + 1);
	p.maybe = calloc(1, n + 1);
	if (!p.durable || !p.maybe) {
		present_free(&p);
		return -ENOMEM;
	}
	*ret = p;
	return 0;
}

void present_free(struct present *p)
{
	free(p->durable);
	free(p->maybe);
	*p = (struct present){.nspans = 0};
}

/* The bits behind the last span's stay 0, so that equal states are equal files. */
static uint8_t last_mask(uint32_t nspans)
{
	return nspans % 8 ? (uint8_t)((1u << nspans % 8) - 1) : 0xff;
}

void present_fill(struct present *p)
{
	size_t n = present_bytes(p->nspans);

	memset(p->durable, 0xff, n);
	memset(p->maybe, 0, n);
	if (n)
		p->durable[n - 1] = last_mask(p->nspans);
	p->flags = PRESENT_CLEAN | PRESENT_COMPLETE;
}

int present_encode(const struct present *p, struct buf *out)
{
	size_t n = present_bytes(p->nspans), start = out->len;
	struct digest sum;

	buf_put(out, magic, sizeof(magic));
	buf_put_le32(out, PRESENT_VERSION);
	buf_put_le32(out, p->flags);
	buf_put(out, p->diff_id.sum, DIGEST_SIZE);
	buf_put_le32(out, p->nspans);
	buf_put_le32(out, 0);
	buf_put(out, p->durable, n);
	buf_put(out, p->maybe, n);
	if (out->failed)
		return out->failed;
	if (digest_of(out->data + start, out->len - start, &sum) < 0)
		return -ENOMEM;
	return buf_put(out, sum.sum, DIGEST_SIZE);
}

/* Complete is every span, and never without clean. */
static bool consistent(const struct present *p)
{
	size_t n = present_bytes(p->nspans);

	for (size_t i = 0; i < n; i++) {
		uint8_t all = i + 1 < n ? 0xff : last_mask(p->nspans);

		if (p->durable[i] & p->maybe[i] || (p->durable[i] | p->maybe[i]) & ~all)
			return false;
		if (p->flags & PRESENT_COMPLETE && p->durable[i] != all)
			return false;
	}
	return !(p->flags & ~(PRESENT_CLEAN | PRESENT_COMPLETE | PRESENT_QUARANTINED)) &&
	       !(p->flags & PRESENT_COMPLETE &&
		 (p->flags & PRESENT_QUARANTINED || !(p->flags & PRESENT_CLEAN)));
}

static bool sum_ok(const uint8_t *data, size_t len)
{
	struct digest sum;

	return len >= DIGEST_SIZE && digest_of(data, len - DIGEST_SIZE, &sum) == 0 &&
	       memcmp(sum.sum, data + len - DIGEST_SIZE, DIGEST_SIZE) == 0;
}

int present_decode(const void *data, size_t len, const struct digest *diff_id, uint32_t nspans,
		   struct present *ret, struct err *e)
{
	_cleanup_(present_free) struct present p = {.nspans = 0};
	uint8_t head[sizeof(magic)];
	struct bytes b = bytes_of(data, len);
	size_t n = present_bytes(nspans);
	struct digest of;
	uint32_t reserved;

	if (!sum_ok(data, len))
		return err_set(e, -EBADMSG, "the present file is damaged");
	if (present_new(diff_id, nspans, &p) < 0)
		return err_errno(e, -ENOMEM, "the present file");
	bytes_copy(&b, head, sizeof(head));
	if (memcmp(head, magic, sizeof(head)) != 0 || bytes_le32(&b) != PRESENT_VERSION)
		return err_set(e, -EBADMSG, "the present file is of another version");
	p.flags = bytes_le32(&b);
	bytes_copy(&b, of.sum, DIGEST_SIZE);
	if (!digest_equal(&of, diff_id) || bytes_le32(&b) != nspans)
		return err_set(e, -EBADMSG, "the present file is another layer's");
	reserved = bytes_le32(&b);
	bytes_copy(&b, p.durable, n);
	bytes_copy(&b, p.maybe, n);
	if (!bytes_ok(&b) || b.left != DIGEST_SIZE || reserved || !consistent(&p))
		return err_set(e, -EBADMSG, "the present file contradicts itself");
	*ret = p;
	p = (struct present){.nspans = 0};
	return 0;
}
