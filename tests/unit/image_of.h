/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_IMAGE_OF_H
#define TESTS_UNIT_IMAGE_OF_H

/* From an entry list to the bytes of its image. Include cmocka.h first. */

#include <sys/mman.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/erofs/image.h"
#include "tests/unit/entry_list.h"

/* Encodes a list; the caller frees @toc. */
static inline uint64_t toc_of(const char *list, struct buf *toc)
{
	static struct entry_line line;
	uint64_t n = 0;

	buf_init(toc, LIMIT_TOC);
	for (; entry_list_next(&list, &line); n++)
		if (toc_put(toc, &line.entry) != 0)
			fail_msg("not a legal entry: %s", line.path);
	return n;
}

static inline struct index index_of(const struct buf *toc, uint64_t nentries, uint64_t tar_size)
{
	struct index ix = {.tar_size = tar_size, .nentries = nentries};

	for (size_t i = 0; i < DIGEST_SIZE; i++)
		ix.diff_id.sum[i] = (uint8_t)(i + 1);
	ix.toc = toc->data;
	ix.toc_len = toc->len;
	return ix;
}

/* The file with the image of @list, or a negative errno. The caller closes it. */
static inline int image_fd(const char *list, uint64_t tar_size, struct err *e)
{
	_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
	_cleanup_buf_ struct buf toc;
	uint64_t n = toc_of(list, &toc);
	struct index ix = index_of(&toc, n, tar_size);
	int r = erofs_image_write(&ix, "layer 1", fd, e);

	return r < 0 ? r : take_fd(&fd);
}

/* The image itself; a refusal fails the test. The caller frees @out. */
static inline void image_of(const char *list, uint64_t tar_size, struct buf *out)
{
	struct err e = ERR_INIT;
	_cleanup_fd_ int fd = image_fd(list, tar_size, &e);

	if (fd < 0)
		fail_msg("refused: %s", e.text);
	buf_init(out, 1 << 30);
	assert_int_equal(fd_read_all(fd, out), 0);
}

#endif
