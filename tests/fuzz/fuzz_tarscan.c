/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"
#include "oci/index/tarscan.h"
#include "oci/stream.h"

/* The input, at most @step bytes at a time. */
struct pieces {
	struct stream s;
	const uint8_t *p;
	size_t left, step;
};

static ssize_t pieces_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct pieces *x = (struct pieces *)s;

	n = n < x->step ? n : x->step;
	n = n < x->left ? n : x->left;
	if (n > 0)
		memcpy(buf, x->p, n);
	x->p += n;
	x->left -= n;
	return (ssize_t)n;
}

static int scan(const uint8_t *data, size_t size, size_t step, struct buf *toc, uint64_t *n)
{
	struct pieces x = {{pieces_read, NULL}, data, size, step};

	buf_init(toc, 16u << 20);
	return tarscan(&x.s, "input", toc, n, NULL);
}

/* A scanned tar makes a table of contents that the reader believes, with data inside the tar. */
static void check(const struct buf *toc, uint64_t nentries, uint64_t tar_size)
{
	_cleanup_(toc_reader_freep) struct toc_reader *r = NULL;
	struct entry entry;
	int more;

	if (toc_reader_new(toc->data, toc->len, nentries, tar_size, &r) < 0)
		abort();
	while ((more = toc_next(r, &entry, NULL)) > 0)
		continue;
	if (more < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* However the bytes arrive, the outcome is the same. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf a;
	_cleanup_buf_ struct buf b;
	uint64_t na = 0, nb = 0;
	int ra = scan(data, size, SIZE_MAX, &a, &na);
	int rb = scan(data, size, 700, &b, &nb);

	if (ra != rb || (ra == 0 && na != nb))
		abort();
	if (ra == 0 && (a.len != b.len || (a.len && memcmp(a.data, b.data, a.len) != 0)))
		abort();
	if (ra == 0)
		check(&a, na, size);
	return 0;
}
