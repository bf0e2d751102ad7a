/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "oci/erofs/crc32c.h"
#include "oci/erofs/extents.h"
#include "tests/unit/image_of.h"

#define FILES                                                                                      \
	"dir d\n"                                                                                  \
	"reg d/c size=700 at=2048\n"                                                               \
	"reg b size=512 at=1024\n"                                                                 \
	"reg empty at=4096\n"                                                                      \
	"link b2 to=b\n"                                                                           \
	"symlink s to=b\n"                                                                         \
	"reg a size=1 at=512\n"

/* An image of our own making, to be damaged: any bytes, then a table and its footer. */
struct forged {
	struct buf file;
	uint64_t n, tar_size;
};

static void forge_start(struct forged *f, uint64_t tar_size)
{
	buf_init(&f->file, 1 << 20);
	buf_put_zeros(&f->file, 2048);
	f->n = 0;
	f->tar_size = tar_size;
}

static void forge_extent(struct forged *f, uint64_t tar_off, uint64_t size, uint64_t nid)
{
	buf_put_le64(&f->file, tar_off);
	buf_put_le64(&f->file, size);
	buf_put_le64(&f->file, nid);
	f->n++;
}

/* Puts the footer with the right sum, loads what came of it. */
static int forge_load(struct forged *f, struct extents *ret, struct err *e)
{
	_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
	size_t table = 2048;

	buf_put(&f->file, "TARNEXT\1", 8);
	buf_put_le64(&f->file, f->n);
	buf_put_le64(&f->file, f->tar_size);
	buf_put_zeros(&f->file, DIGEST_SIZE + 4);
	buf_put_le32(&f->file, crc32c(CRC32C_INIT, f->file.data + table, f->file.len - table));
	assert_int_equal(f->file.failed, 0);
	assert_int_equal(fd_pwrite_full(fd, f->file.data, f->file.len, 0), 0);
	buf_free(&f->file);
	return extents_load(fd, ret, e);
}

static void forge_refused(struct forged *f, const char *why)
{
	struct extents x = {.n = 77};
	struct err e = ERR_INIT;

	assert_int_equal(forge_load(f, &x, &e), -EBADMSG);
	assert_non_null(strstr(e.text, why));
	assert_int_equal(x.n, 77);
}

static void the_crc_is_castagnoli(void **state)
{
	/* RFC 3720, B.4: 32 bytes of zeros, and of ones; with the final inversion. */
	uint8_t data[32] = {0};

	assert_int_equal(crc32c(CRC32C_INIT, data, 32) ^ 0xffffffff, 0x8a9136aa);
	memset(data, 0xff, 32);
	assert_int_equal(crc32c(CRC32C_INIT, data, 32) ^ 0xffffffff, 0x62a8ab43);
	assert_int_equal(crc32c(crc32c(CRC32C_INIT, data, 5), data, 27) ^ 0xffffffff, 0x62a8ab43);
}

static void an_image_brings_its_extents(void **state)
{
	_cleanup_fd_ int fd = image_fd(FILES, 8192, NULL);
	struct extents x;

	assert_int_equal(extents_load(fd, &x, NULL), 0);
	assert_int_equal(x.n, 3);
	assert_int_equal(x.tar_size, 8192);
	assert_int_equal(x.diff_id.sum[0], 1);
	assert_int_equal(x.diff_id.sum[31], 32);
	assert_int_equal(x.v[0].tar_off, 512);
	assert_int_equal(x.v[0].size, 1);
	assert_int_equal(x.v[1].tar_off, 1024);
	assert_int_equal(x.v[1].size, 512);
	assert_int_equal(x.v[2].tar_off, 2048);
	assert_int_equal(x.v[2].size, 700);
	extents_free(&x);
	assert_int_equal(x.n, 0);
}

static void a_layer_without_data_has_an_empty_table(void **state)
{
	_cleanup_fd_ int fd = image_fd("dir a\nreg b\n", 1024, NULL);
	struct extents x;

	assert_int_equal(extents_load(fd, &x, NULL), 0);
	assert_int_equal(x.n, 0);
	assert_int_equal(extents_first(&x, 0), 0);
	assert_null(extents_by_nid(&x, 40));
	extents_free(&x);
	extents_free(NULL);
}

static void the_first_that_ends_behind_an_offset(void **state)
{
	_cleanup_fd_ int fd = image_fd(FILES, 8192, NULL);
	struct extents x;

	assert_int_equal(extents_load(fd, &x, NULL), 0);
	assert_int_equal(extents_first(&x, 0), 0);
	assert_int_equal(extents_first(&x, 512), 0);
	assert_int_equal(extents_first(&x, 513), 1);
	assert_int_equal(extents_first(&x, 1535), 1);
	assert_int_equal(extents_first(&x, 1536), 2);
	assert_int_equal(extents_first(&x, 2747), 2);
	assert_int_equal(extents_first(&x, 2748), 3);
	assert_int_equal(extents_first(&x, UINT64_MAX), 3);
	extents_free(&x);
}

static void every_nid_is_found(void **state)
{
	_cleanup_fd_ int fd = -1;
	struct extents x;
	char list[8192];
	size_t at = 0;

	/* The names in another order than the data, so that nids and offsets are too. */
	for (unsigned int i = 0; i < 200; i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "reg f%03u size=9 at=%u\n",
				       i * 37 % 200, i * 512);
	fd = image_fd(list, 200 * 512, NULL);
	assert_true(fd >= 0);
	assert_int_equal(extents_load(fd, &x, NULL), 0);
	assert_int_equal(x.n, 200);
	for (size_t i = 0; i < x.n; i++) {
		assert_ptr_equal(extents_by_nid(&x, x.v[i].nid), &x.v[i]);
		assert_null(extents_by_nid(&x, x.v[i].nid + 1));
	}
	assert_null(extents_by_nid(&x, 0));
	assert_null(extents_by_nid(&x, UINT64_MAX));
	extents_free(&x);
}

static void any_changed_byte_is_noticed(void **state)
{
	_cleanup_buf_ struct buf image;
	size_t table;

	image_of(FILES, 8192, &image);
	table = image.len - EXTENT_FOOTER_SIZE - 3 * EXTENT_SIZE;
	for (size_t i = table; i < image.len; i++) {
		_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
		struct err e = ERR_INIT;
		struct extents x;

		image.data[i] ^= 0x10;
		assert_int_equal(fd_pwrite_full(fd, image.data, image.len, 0), 0);
		assert_int_equal(extents_load(fd, &x, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "the image's extent table: "));
		image.data[i] ^= 0x10;
	}
}

static void what_is_no_image_is_refused(void **state)
{
	_cleanup_fd_ int dir = open("/", O_RDONLY | O_CLOEXEC);
	_cleanup_buf_ struct buf image;
	struct extents x;

	image_of(FILES, 8192, &image);
	for (size_t len = 0; len < image.len; len += len < image.len - 200 ? 100 : 1) {
		_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);

		assert_int_equal(fd_pwrite_full(fd, image.data, len, 0), 0);
		assert_int_equal(extents_load(fd, &x, NULL), -EBADMSG);
	}
	assert_int_equal(extents_load(dir, &x, NULL), -EBADMSG);
	assert_int_equal(extents_load(-1, &x, NULL), -EBADF);
}

static void a_table_must_make_sense_whatever_its_sum(void **state)
{
	struct extents x;
	struct forged f;

	forge_start(&f, 4096);
	forge_extent(&f, 512, 512, 50);
	forge_extent(&f, 1024, 3072, 48);
	assert_int_equal(forge_load(&f, &x, NULL), 0);
	assert_ptr_equal(extents_by_nid(&x, 48), &x.v[1]);
	extents_free(&x);

	forge_start(&f, 4096);
	forge_extent(&f, 512, 513, 50);
	forge_extent(&f, 1024, 1, 48);
	forge_refused(&f, "an extent is not where it can be");

	forge_start(&f, 4096);
	forge_extent(&f, 1024, 1, 50);
	forge_extent(&f, 512, 1, 48);
	forge_refused(&f, "an extent is not where it can be");

	forge_start(&f, 4096);
	forge_extent(&f, 512, 0, 50);
	forge_refused(&f, "an extent is not where it can be");

	forge_start(&f, 4096);
	forge_extent(&f, 512, 3585, 50);
	forge_refused(&f, "an extent is not where it can be");

	forge_start(&f, UINT64_MAX);
	forge_extent(&f, UINT64_MAX - 1, 2, 50);
	forge_refused(&f, "an extent is not where it can be");

	forge_start(&f, 4096);
	forge_extent(&f, 512, 1, 64);
	forge_refused(&f, "an inode lies outside of the image");

	forge_start(&f, 4096);
	forge_extent(&f, 512, 1, 50);
	forge_extent(&f, 1024, 1, 51);
	forge_extent(&f, 1536, 1, 50);
	forge_refused(&f, "an inode has two extents");

	forge_start(&f, 4096);
	forge_extent(&f, 512, 1, 50);
	f.n = UINT64_MAX / EXTENT_SIZE + 2;
	forge_refused(&f, "it is longer than the image");

	forge_start(&f, 4096);
	forge_extent(&f, 512, 1, 50);
	f.n = 0;
	forge_refused(&f, "it does not start at a block");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_crc_is_castagnoli),
		cmocka_unit_test(an_image_brings_its_extents),
		cmocka_unit_test(a_layer_without_data_has_an_empty_table),
		cmocka_unit_test(the_first_that_ends_behind_an_offset),
		cmocka_unit_test(every_nid_is_found),
		cmocka_unit_test(any_changed_byte_is_noticed),
		cmocka_unit_test(what_is_no_image_is_refused),
		cmocka_unit_test(a_table_must_make_sense_whatever_its_sum),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
