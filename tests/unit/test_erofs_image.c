/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "oci/base/digest.h"
#include "tests/unit/erofs_check.h"
#include "tests/unit/image_of.h"

#define GOLDEN   "tests/golden/erofs"
#define TAR_SIZE (LIMIT_TAR_SIZE - 512)

/* The allocation with this number fails, counting down; negative: none does. */
static int fail_in = -1;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool fails_now(void)
{
	return fail_in >= 0 && fail_in-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails_now() ? NULL : __real_realloc(p, n);
}

static void assert_sound(const struct buf *image, uint64_t tar_size)
{
	const char *why = erofs_check(image->data, image->len, tar_size);

	if (why)
		fail_msg("not a sound image: %s", why);
}

/* The inode at @nid, which the check has found to be in order. */
static struct erofs_inode inode_at(const struct buf *image, uint64_t nid)
{
	struct erofs_inode in;

	assert_true(nid * 32 + sizeof(in) <= image->len);
	memcpy(&in, image->data + nid * 32, sizeof(in));
	return in;
}

/* For images of one file: its inode comes right behind the root's, wherever that ends. */
static uint64_t only_child(const struct buf *image, uint64_t tar_size)
{
	struct extents x;
	_cleanup_fd_ int fd = memfd_create("copy", MFD_CLOEXEC);
	uint64_t nid;

	assert_int_equal(fd_write_full(fd, image->data, image->len), 0);
	assert_int_equal(extents_load(fd, &x, NULL), 0);
	assert_int_equal(x.n, 1);
	assert_int_equal(x.tar_size, tar_size);
	nid = x.v[0].nid;
	extents_free(&x);
	return nid;
}

static void the_superblock_says_what_it_should(void **state)
{
	_cleanup_buf_ struct buf image;
	struct erofs_super sb;
	struct erofs_device dev;

	image_of("dir d\nreg d/f size=5 at=1024\n", 2049, &image);
	assert_sound(&image, 2049);
	memcpy(&sb, image.data + 1024, sizeof(sb));
	memcpy(&dev, image.data + 1152, sizeof(dev));
	assert_int_equal(le32toh(sb.feature_compat), 3);
	assert_int_equal(le16toh(sb.root_nid), 40);
	assert_int_equal(le64toh(sb.inos), 3);
	assert_int_equal(sb.uuid[0], 1);
	assert_int_equal(sb.uuid[15], 16);
	assert_string_equal((const char *)sb.volume_name, "tarn");
	assert_int_equal(le32toh(dev.blocks), 5);
}

static void an_empty_layer_has_an_image(void **state)
{
	_cleanup_buf_ struct buf image;

	image_of("", 0, &image);
	assert_sound(&image, 0);
	assert_int_equal(image.len, 1536 + 64);
}

/* The nightmare of any cache of images: the same layer, other bytes. */
static void the_same_index_gives_the_same_bytes(void **state)
{
	static const char *const list =
		"dir a mode=755\nreg a/1 size=9 at=512\nreg a/2 size=9 at=1536\n"
		"link a/3 to=a/1\nwhiteout b\nopaque a\nsymlink c to=x*600\n";
	_cleanup_buf_ struct buf one, two;

	image_of(list, 1 << 20, &one);
	image_of(list, 1 << 20, &two);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
}

static void the_order_of_entries_does_not_show(void **state)
{
	_cleanup_buf_ struct buf one, two;

	image_of("dir a mode=700\nreg a/1 size=9 at=512\nreg b\nopaque a\nwhiteout z\n", 4096,
		 &one);
	image_of("whiteout z\nopaque a\nreg b\nreg a/1 size=9 at=512\ndir a mode=700\n", 4096,
		 &two);
	assert_int_equal(one.len, two.len);
	assert_memory_equal(one.data, two.data, one.len);
}

/* Every length a link can have, so every place a tail can end. */
static void symbolic_links_of_every_length(void **state)
{
	for (unsigned int len = 1; len < LIMIT_PATH; len += len < 1600 ? 1 : 7) {
		_cleanup_buf_ struct buf image;
		char list[64];

		snprintf(list, sizeof(list), "symlink a mode=777 to=t*%u\n", len);
		image_of(list, 0, &image);
		assert_sound(&image, 0);
	}
}

/* And with attributes of every length in between, which are not multiples of 32. */
static void tails_behind_attributes(void **state)
{
	static char list[2048], value[1025];

	memset(value, 'v', sizeof(value) - 1);
	for (unsigned int x = 1; x <= 600; x += 4)
		for (unsigned int len = 420; len < 516; len += 5) {
			_cleanup_buf_ struct buf image;

			snprintf(list, sizeof(list), "symlink a to=t*%u x:user.a=%.*s\n", len,
				 (int)x, value);
			image_of(list, 0, &image);
			assert_sound(&image, 0);
		}
}

static void chunk_indexes_behind_attributes(void **state)
{
	for (unsigned int x = 1; x < 80; x++) {
		_cleanup_buf_ struct buf image;
		char list[256];

		/* An index that is not where it should be reads as another block or none. */
		snprintf(list, sizeof(list), "reg f size=100 at=512 x:user.a=%0*u\n", (int)x, 7u);
		image_of(list, 1024, &image);
		assert_sound(&image, 1024);
		assert_non_null(memmem(image.data, image.len, "\0\0\1\0\1\0\0\0", 8));
	}
}

static void a_long_link_is_all_there(void **state)
{
	_cleanup_buf_ struct buf image, list = {.max = 1 << 16};
	const char *target;

	buf_put_str(&list, "symlink a to=");
	for (unsigned int i = 1000; i < 1150; i++)
		buf_printf(&list, "%u", i);
	target = strchr(buf_cstr(&list), '=') + 1;
	image_of(buf_cstr(&list), 0, &image);
	assert_sound(&image, 0);
	assert_int_equal(strlen(target), 600);
	assert_non_null(memmem(image.data, image.len, target, 512));
	assert_non_null(memmem(image.data, image.len, target + 512, 88));
}

static void directories_of_every_size(void **state)
{
	static char list[1 << 16];
	size_t at = 0;

	for (unsigned int n = 1; n < 400; n++) {
		_cleanup_buf_ struct buf image;

		/* Lengths from 4 to 255 that fill blocks in ever different ways. */
		at += (size_t)snprintf(list + at, sizeof(list) - at, "reg d%04u", n);
		for (unsigned int i = 0; i < n * 37 % 250; i++)
			list[at++] = (char)('a' + (i + n) % 26);
		list[at++] = '\n';
		list[at] = '\0';
		image_of(list, 0, &image);
		assert_sound(&image, 0);
	}
}

static void a_directory_that_fills_its_blocks(void **state)
{
	_cleanup_buf_ struct buf image;
	struct erofs_inode root;

	/* "." and ".." take 27 bytes; 12 + 206 and 12 + 255 make it 512. */
	image_of("reg a*206\nreg b*255\n", 0, &image);
	assert_sound(&image, 0);
	root = inode_at(&image, 40);
	assert_int_equal(le64toh(root.size), 512);
	assert_int_equal(le16toh(root.format), EROFS_FLAT_PLAIN);
}

static void chunks_are_the_smallest_that_hold_a_file(void **state)
{
	static const struct {
		uint64_t size;
		unsigned int bits;
	} cases[] = {
		{1, 0},
		{512, 0},
		{513, 1},
		{1024, 1},
		{1025, 2},
		{3 << 20, 13},
		{9ull << 30, 25},
		{1ull << 40, 31},
		{(1ull << 40) + 1, 31},
		{1900ull << 30, 31},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_buf_ struct buf image;
		struct erofs_inode in;
		char list[64];

		snprintf(list, sizeof(list), "reg f size=%llu at=1536\n",
			 (unsigned long long)cases[i].size);
		image_of(list, TAR_SIZE, &image);
		assert_sound(&image, TAR_SIZE);
		in = inode_at(&image, only_child(&image, TAR_SIZE));
		assert_int_equal(le16toh(in.format), EROFS_CHUNK_BASED);
		assert_int_equal(le32toh(in.u), cases[i].bits | 0x20);
	}
}

static void the_last_block_of_the_largest_tar(void **state)
{
	_cleanup_buf_ struct buf image;
	struct err e = ERR_INIT;

	image_of("reg f size=512 at=2199023254528\n", TAR_SIZE, &image);
	assert_sound(&image, TAR_SIZE);
	/* One block more, and its number would mean "hole". */
	assert_int_equal(image_fd("", TAR_SIZE + 1, &e), -EFBIG);
	assert_string_equal(e.text, "layer 1: a layer of 2 TiB or more");
}

static void an_inode_says_what_the_entry_said(void **state)
{
	_cleanup_buf_ struct buf image;
	struct erofs_inode in;

	image_of("reg f mode=4711 uid=4000000000 gid=70000 mtime=-315619200 ns=7 size=1 at=512 "
		 "x:security.capability=abcd x:user.a=1\n",
		 1024, &image);
	assert_sound(&image, 1024);
	in = inode_at(&image, only_child(&image, 1024));
	assert_int_equal(le16toh(in.mode), 0104711);
	assert_int_equal(le32toh(in.uid), 4000000000);
	assert_int_equal(le32toh(in.gid), 70000);
	assert_int_equal((int64_t)le64toh(in.mtime), -315619200);
	assert_int_equal(le32toh(in.mtime_nsec), 7);
	assert_int_equal(le32toh(in.nlink), 1);
	/* 12 for the header, 4 + 10 + 4 and 4 + 1 + 1 rounded up to multiples of 4. */
	assert_int_equal(le16toh(in.xattr_icount), 1 + (20 + 8) / 4);
}

static void a_damaged_table_of_contents_is_refused(void **state)
{
	_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
	_cleanup_buf_ struct buf toc;
	uint64_t n = toc_of("dir a\nreg b size=9 at=512\n", &toc);
	struct index ix = index_of(&toc, n, 1024);
	struct err e = ERR_INIT;

	ix.toc_len--;
	assert_int_equal(erofs_image_write(&ix, "layer 1", fd, &e), -EBADMSG);
	assert_ptr_equal(strstr(e.text, "layer 1: "), e.text);
	ix.toc_len++;
	ix.tar_size = 520;
	assert_int_equal(erofs_image_write(&ix, "layer 1", fd, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "'b'"));
	ix.nentries = (uint64_t)LIMIT_ENTRIES + 1;
	assert_int_equal(erofs_image_write(&ix, "layer 1", fd, &e), -EFBIG);
	assert_string_equal(e.text, "layer 1: more than 4194304 entries");
	/* Nothing of a refused image was written. */
	assert_int_equal(lseek(fd, 0, SEEK_END), 0);
}

static void refusals_of_the_tree_come_through(void **state)
{
	struct err e = ERR_INIT;

	assert_int_equal(image_fd("reg a\nreg a/b\n", 0, &e), -EBADMSG);
	assert_string_equal(e.text, "layer 1: entry 'a/b': a parent directory is a file");
}

static void overlapping_data_is_refused(void **state)
{
	_cleanup_buf_ struct buf image;
	struct err e = ERR_INIT;

	assert_int_equal(image_fd("reg d/a size=513 at=512\nreg d/b size=1 at=1024\n", 4096, &e),
			 -EBADMSG);
	assert_string_equal(e.text, "layer 1: the data of entry 'd/a' and of entry 'd/b' overlap");
	/* What was replaced is not in the way. */
	image_of("reg a size=513 at=512\nreg a size=1 at=1024\n", 4096, &image);
	assert_sound(&image, 4096);
}

static void a_full_disk_is_told(void **state)
{
	_cleanup_fd_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	_cleanup_buf_ struct buf toc;
	uint64_t n = toc_of("dir a\n", &toc);
	struct index ix = index_of(&toc, n, 0);
	struct err e = ERR_INIT;

	assert_int_equal(erofs_image_write(&ix, "layer 1", fd, &e), -ENOSPC);
	assert_string_equal(e.text, "layer 1: cannot write the image: No space left on device");
}

/* Each allocation in turn: no crash, no leak (under the sanitizers), and the right words. */
static void no_memory_is_told(void **state)
{
	_cleanup_buf_ struct buf toc, names = {.max = 1 << 20};
	struct index ix;
	int failures = 0;
	uint64_t n;
	int r;

	/* Enough of everything that the table of names and the arena have to grow. */
	buf_put_str(&names, "opaque d\nwhiteout e\nsymlink l to=x x:user.a=b\n");
	for (unsigned int i = 0; i < 8000; i++)
		buf_printf(&names, "reg d%u/%u size=1 at=%u\n", i % 7, i, i * 512);
	n = toc_of(buf_cstr(&names), &toc);
	ix = index_of(&toc, n, 8000 * 512);
	do {
		_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
		struct err e = ERR_INIT;
		struct extents x;

		fail_in = failures;
		r = erofs_image_write(&ix, "layer 1", fd, &e);
		if (r == 0)
			r = extents_load(fd, &x, &e);
		if (r == 0)
			extents_free(&x);
		fail_in = -1;
		if (r < 0) {
			assert_int_equal(r, -ENOMEM);
			assert_non_null(strstr(e.text, "memory"));
		}
	} while (r < 0 && ++failures < 1000000);
	assert_true(failures > 15);
}

/* Larger than any buffer on the way, in every part of the image. */
static void a_large_layer(void **state)
{
	_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
	_cleanup_buf_ struct buf toc = {.max = LIMIT_TOC};
	_cleanup_buf_ struct buf image = {.max = 1 << 30};
	const unsigned int n = 200000;
	clock_t start = clock();
	struct index ix;

	for (unsigned int i = 0; i < n; i++) {
		char path[64];
		struct entry en = {
			.type = ENTRY_REG,
			.path = path,
			.size = 100,
			.tar_offset = i * 512ull,
		};

		snprintf(path, sizeof(path), "d%u/file-%u", i % 2 ? 0 : i / 100, i);
		assert_int_equal(toc_put(&toc, &en), 0);
	}
	ix = index_of(&toc, n, n * 512ull);
	assert_int_equal(erofs_image_write(&ix, "layer 1", fd, NULL), 0);
	assert_int_equal(fd_read_all(fd, &image), 0);
	assert_sound(&image, ix.tar_size);
	assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
}

static void read_golden(const char *name, const char *ext, struct buf *out)
{
	_cleanup_fd_ int fd = -1;
	char path[512];

	snprintf(path, sizeof(path), GOLDEN "/%s%s", name, ext);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("cannot open %s", path);
	buf_init(out, 1 << 20);
	assert_int_equal(fd_read_all(fd, out), 0);
}

static void check_golden(const char *name)
{
	_cleanup_buf_ struct buf list, want, image;
	char hex[DIGEST_HEX + 1];
	struct digest sum;

	read_golden(name, ".list", &list);
	read_golden(name, ".sha256", &want);
	image_of(buf_cstr(&list), 1ull << 30, &image);
	assert_sound(&image, 1ull << 30);
	assert_int_equal(digest_of(image.data, image.len, &sum), 0);
	digest_hex(&sum, hex);
	if (want.len < DIGEST_HEX || memcmp(want.data, hex, DIGEST_HEX) != 0)
		fail_msg("%s: the image is now %s", name, hex);
}

/* A changed sum means that every image in every store is made anew: only ever on purpose. */
static void images_are_what_they_were(void **state)
{
	DIR *dir = opendir(GOLDEN);
	unsigned int n = 0;
	struct dirent *d;

	assert_non_null(dir);
	while ((d = readdir(dir))) {
		char *dot = strrchr(d->d_name, '.');

		if (!dot || strcmp(dot, ".list") != 0)
			continue;
		*dot = '\0';
		check_golden(d->d_name);
		n++;
	}
	closedir(dir);
	assert_true(n >= 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_superblock_says_what_it_should),
		cmocka_unit_test(an_empty_layer_has_an_image),
		cmocka_unit_test(the_same_index_gives_the_same_bytes),
		cmocka_unit_test(the_order_of_entries_does_not_show),
		cmocka_unit_test(symbolic_links_of_every_length),
		cmocka_unit_test(tails_behind_attributes),
		cmocka_unit_test(chunk_indexes_behind_attributes),
		cmocka_unit_test(a_long_link_is_all_there),
		cmocka_unit_test(directories_of_every_size),
		cmocka_unit_test(a_directory_that_fills_its_blocks),
		cmocka_unit_test(chunks_are_the_smallest_that_hold_a_file),
		cmocka_unit_test(the_last_block_of_the_largest_tar),
		cmocka_unit_test(an_inode_says_what_the_entry_said),
		cmocka_unit_test(a_damaged_table_of_contents_is_refused),
		cmocka_unit_test(refusals_of_the_tree_come_through),
		cmocka_unit_test(overlapping_data_is_refused),
		cmocka_unit_test(a_full_disk_is_told),
		cmocka_unit_test(no_memory_is_told),
		cmocka_unit_test(a_large_layer),
		cmocka_unit_test(images_are_what_they_were),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
