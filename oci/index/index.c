/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/index.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"

#define HEADER_SIZE 80
#define MAGIC_SIZE  8

static const uint8_t magic[MAGIC_SIZE] = {'T', 'A', 'R', 'N', 'I', 'D', 'X', 1};

/* Small layers want small misses, large layers small tables. */
#define SMALL_BLOB  ((uint64_t)64 << 20)
#define MEDIUM_BLOB ((uint64_t)1 << 30)

uint32_t index_span_size(uint64_t blob_size)
{
	if (blob_size < SMALL_BLOB)
		return 1u << 20;
	return blob_size < MEDIUM_BLOB ? 2u << 20 : 4u << 20;
}

/* NULL when the numbers of the header agree with each other. */
static const char *check(const struct index *ix)
{
	if (ix->span_size < LIMIT_SPAN_MIN || ix->span_size > LIMIT_SPAN_MAX ||
	    (ix->span_size & (ix->span_size - 1)))
		return "the span size is not a power of two from 64 KiB to 4 MiB";
	if (ix->tar_size > LIMIT_TAR_SIZE)
		return "the tar is larger than 2 TiB";
	if (ix->nspans != (ix->tar_size + ix->span_size - 1) / ix->span_size)
		return "the number of spans does not fit the size of the tar";
	if (ix->nentries > LIMIT_ENTRIES)
		return "there are too many entries";
	if (ix->toc_len > LIMIT_TOC)
		return "the table of contents is too large";
	return NULL;
}

int index_encode(const struct index *ix, struct buf *out)
{
	struct digest sum;
	size_t start = out->len;
	int r;

	if (check(ix))
		return -EINVAL;
	buf_put(out, magic, MAGIC_SIZE);
	buf_put_le32(out, INDEX_VERSION);
	buf_put_le32(out, HEADER_SIZE);
	buf_put(out, ix->diff_id.sum, DIGEST_SIZE);
	buf_put_le64(out, ix->tar_size);
	buf_put_le32(out, ix->span_size);
	buf_put_le32(out, ix->nspans);
	buf_put_le64(out, ix->toc_len);
	buf_put_le64(out, ix->nentries);
	buf_put(out, ix->toc, ix->toc_len);
	buf_put(out, ix->digests, (size_t)ix->nspans * DIGEST_SIZE);
	if (out->failed)
		return out->failed;
	r = digest_of(out->data + start, out->len - start, &sum);
	return r < 0 ? r : buf_put(out, sum.sum, DIGEST_SIZE);
}

static int damaged(const char *what, const char *why, struct err *e)
{
	return err_set(e, -EBADMSG, "%s: the index is damaged: %s", what, why);
}

static int check_sum(const uint8_t *data, size_t len, const char *what, struct err *e)
{
	struct digest sum;
	int r;

	if (len < HEADER_SIZE + DIGEST_SIZE)
		return damaged(what, "it is cut short", e);
	if (memcmp(data, magic, MAGIC_SIZE) != 0)
		return err_set(e, -EBADMSG, "%s: this is no layer index", what);
	r = digest_of(data, len - DIGEST_SIZE, &sum);
	if (r < 0)
		return err_errno(e, r, "%s: cannot compute a sha256", what);
	if (memcmp(sum.sum, data + len - DIGEST_SIZE, DIGEST_SIZE) != 0)
		return damaged(what, "its checksum is wrong", e);
	return 0;
}

int index_decode(const void *data, size_t len, const char *what, struct index *ret, struct err *e)
{
	struct bytes in = bytes_of(data, len);
	struct index ix = {0};
	uint32_t version, header;
	uint64_t toc_len;
	const char *why;
	int r = check_sum(data, len, what, e);

	if (r < 0)
		return r;
	in.left -= DIGEST_SIZE;
	bytes_take(&in, MAGIC_SIZE);
	version = bytes_le32(&in);
	header = bytes_le32(&in);
	if (version != INDEX_VERSION || header != HEADER_SIZE)
		return err_set(e, -EBADMSG, "%s: index version %" PRIu32 " is not ours (%d)", what,
			       version, INDEX_VERSION);
	bytes_copy(&in, ix.diff_id.sum, DIGEST_SIZE);
	ix.tar_size = bytes_le64(&in);
	ix.span_size = bytes_le32(&in);
	ix.nspans = bytes_le32(&in);
	toc_len = bytes_le64(&in);
	ix.nentries = bytes_le64(&in);
	if (toc_len > in.left)
		return damaged(what, "the table of contents is cut short", e);
	ix.toc_len = (size_t)toc_len;
	why = check(&ix);
	if (why)
		return damaged(what, why, e);
	ix.toc = bytes_take(&in, ix.toc_len);
	ix.digests = bytes_take(&in, (size_t)ix.nspans * DIGEST_SIZE);
	if (!bytes_ok(&in) || in.left > 0)
		return damaged(what, "its length does not fit its header", e);
	*ret = ix;
	return 0;
}
