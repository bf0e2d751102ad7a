/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Input: the number of entries (u32), the size of the tar (u64), then a table of contents, all
 * little-endian, as whoever builds an index might hand them to us.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "oci/erofs/image.h"
#include "tests/unit/erofs_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever is accepted gives an image that a strict reader finds nothing wrong with. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = bytes_of(data, size);
	struct index ix = {.nentries = bytes_le32(&in), .tar_size = bytes_le64(&in)};
	_cleanup_buf_ struct buf image = {.max = SIZE_MAX};
	_cleanup_fd_ int fd = -1;
	struct extents x;

	if (!bytes_ok(&in))
		return 0;
	ix.toc = in.p;
	ix.toc_len = in.left;
	fd = memfd_create("image", MFD_CLOEXEC);
	if (fd < 0)
		abort();
	if (erofs_image_write(&ix, "input", fd, NULL) < 0)
		return 0;
	if (fd_read_all(fd, &image) < 0 || extents_load(fd, &x, NULL) < 0)
		abort();
	if (erofs_check(image.data, image.len, ix.tar_size))
		abort();
	for (size_t i = 0; i < x.n; i++)
		if (extents_by_nid(&x, x.v[i].nid) != &x.v[i])
			abort();
	extents_free(&x);
	return 0;
}
