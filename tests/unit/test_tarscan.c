/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <seccomp.h>

#include "tests/unit/scan.h"

static void every_type(void **state)
{
	struct entry x;

	put(.name = "d/", .type = '5', .mode = 01777, .uid = 1, .gid = 2, .mtime = 3);
	put(.name = "d/f", .mode = 06755, .data = "abc", .size = 3, .uid = 2097151, .gid = 99);
	put(.name = "d/s", .link = "../../x y", .type = '2', .mode = 0777);
	put(.name = "d/h", .link = "./d/f", .type = '1', .mode = 0644);
	put(.name = "d/c", .type = '3', .major = 5, .minor = 1, .mode = 0666);
	put(.name = "d/b", .type = '4', .major = 4095, .minor = 1048575);
	put(.name = "d/p", .type = '6');
	put(.name = "d/contiguous", .type = '7', .data = "abcd", .size = 4);
	put(.name = "d/empty");
	tarmake_end(&tar);
	scan();
	assert_int_equal(nentries, 9);
	x = next(ENTRY_DIR, "d");
	assert_int_equal(x.mode, 01777);
	assert_int_equal(x.uid, 1);
	assert_int_equal(x.gid, 2);
	assert_int_equal(x.mtime, 3);
	x = next(ENTRY_REG, "d/f");
	assert_int_equal(x.mode, 06755);
	assert_int_equal(x.size, 3);
	assert_int_equal(x.tar_offset, 1024);
	assert_memory_equal(tar.data + x.tar_offset, "abc", 3);
	assert_int_equal(x.uid, 2097151);
	x = next(ENTRY_SYMLINK, "d/s");
	assert_string_equal(x.target, "../../x y");
	x = next(ENTRY_HARDLINK, "d/h");
	assert_string_equal(x.target, "d/f");
	x = next(ENTRY_CHR, "d/c");
	assert_int_equal(x.rdev_major, 5);
	assert_int_equal(x.rdev_minor, 1);
	x = next(ENTRY_BLK, "d/b");
	assert_int_equal(x.rdev_major, 4095);
	assert_int_equal(x.rdev_minor, 1048575);
	next(ENTRY_FIFO, "d/p");
	x = next(ENTRY_REG, "d/contiguous");
	assert_memory_equal(tar.data + x.tar_offset, "abcd", 4);
	x = next(ENTRY_REG, "d/empty");
	assert_int_equal(x.size, 0);
	no_more();
}

static void sparse_members(void **state)
{
	/* GNU's own: a type, and a map in the header (offset 386: offset and length, 12 each). */
	tarmake_header(
		&tar,
		&(struct tarmake){.name = "gnu", .type = 'S', .magic = "ustar  \0", .size = 512});
	memcpy(tar.data + 386, "00000001000\00000000001000\0", 24);
	memcpy(tar.data + 483, "00000002000", 12);
	tarmake_checksum(tar.data);
	buf_put_zeros(&tar, 512);
	refused("'gnu'", "sparse");
	/* The same with a map that covers all of it, so that the data is in one piece. */
	tarmake_header(
		&tar,
		&(struct tarmake){.name = "gnu", .type = 'S', .magic = "ustar  \0", .size = 512});
	memcpy(tar.data + 386, "00000000000\00000000001000\0", 24);
	memcpy(tar.data + 483, "00000001000", 12);
	tarmake_checksum(tar.data);
	buf_put_zeros(&tar, 512);
	refused("'gnu'", "sparse");

	attr("GNU.sparse.major", "1");
	attr("GNU.sparse.minor", "0");
	attr("GNU.sparse.name", "real");
	attr("GNU.sparse.realsize", "1000000");
	put_pax();
	put(.name = "GNUSparseFile.0/real", .size = 1024);
	buf_put_str(&tar, "1\n999488\n512\n");
	buf_pad_to(&tar, 512);
	buf_put_zeros(&tar, 512);
	refused("'real'", "sparse");

	attr("GNU.sparse.size", "1000");
	attr("GNU.sparse.numblocks", "1");
	attr("GNU.sparse.offset", "0");
	attr("GNU.sparse.numbytes", "3");
	put_pax();
	put(.name = "pax00", .data = "abc", .size = 3);
	refused("'pax00'", "sparse");
	attr("GNU.sparse.map", "0,3");
	attr("GNU.sparse.size", "1000");
	put_pax();
	put(.name = "pax01", .data = "abc", .size = 3);
	refused("'pax01'", "sparse");
	attr("SCHILY.realsize", "1000");
	put_pax();
	put(.name = "star", .data = "abc", .size = 3);
	refused("'star'", "sparse");
	attr("SUN.holesdata", " 0 3 1000");
	put_pax();
	put(.name = "sun", .data = "abc", .size = 3);
	refused("'sun'", "sparse");
}

static void hard_links_with_sizes(void **state)
{
	struct entry x;

	/* Old writers repeat the file's size, and no data follows. */
	put(.name = "f", .magic = "ustar  \0", .data = "abc", .size = 3);
	put(.name = "h", .magic = "ustar  \0", .type = '1', .link = "f", .size = 3);
	put(.name = "g", .magic = "ustar  \0", .data = "xyz", .size = 3);
	put(.name = "hh", .type = '1', .link = "f", .size = 3);
	put(.name = "gg", .data = "123", .size = 3);
	scan();
	next(ENTRY_REG, "f");
	assert_int_equal(next(ENTRY_HARDLINK, "h").size, 0);
	x = next(ENTRY_REG, "g");
	assert_memory_equal(tar.data + x.tar_offset, "xyz", 3);
	next(ENTRY_HARDLINK, "hh");
	x = next(ENTRY_REG, "gg");
	assert_memory_equal(tar.data + x.tar_offset, "123", 3);
	no_more();

	/* POSIX 2001 lets a link carry data; image tools would take it for headers. */
	buf_clear(&tar);
	attr("mtime", "1");
	put_pax();
	put(.name = "h", .type = '1', .link = "f", .data = "abc", .size = 3);
	put(.name = "g", .data = "xyz", .size = 3);
	refused("'h'", "not as long as its size says");
}

/* A file with a link path in its PAX header is a file, as for every image tool. */
static void links_that_are_none(void **state)
{
	attr("linkpath", "elsewhere");
	put_pax();
	put(.name = "f", .data = "abc", .size = 3);
	scan();
	assert_int_equal(next(ENTRY_REG, "f").size, 3);
}

static void types_that_are_refused(void **state)
{
	static const char types[] = "DMNEZ8\x01";

	for (const char *t = types; *t; t++) {
		put(.name = "usual");
		put(.name = "odd", .type = *t);
		refused("'odd'", "type");
	}
}

static void global_headers_and_labels(void **state)
{
	attr("comment", "0123456789abcdef");
	attr("path", "not for the next one");
	tarmake_special(&tar, 'g', pax.data, pax.len);
	buf_clear(&pax);
	put(.name = "f");
	put(.name = "label", .type = 'V');
	put(.name = "g");
	scan();
	next(ENTRY_REG, "f");
	next(ENTRY_REG, "g");
	no_more();
}

static void big_sizes(void **state)
{
	/* 9 GiB in base 256 and in PAX, the data missing: the size is seen, and the cut. */
	put(.name = "big", .size = (uint64_t)9 << 30);
	refused("'big'", "Truncated");
	attr("size", "9663676416");
	put_pax();
	put(.name = "big");
	refused("'big'", "Truncated");
	put(.name = "huge", .size = (uint64_t)1 << 62);
	refused("'huge'", "out of range");
	attr("size", "-1");
	put_pax();
	put(.name = "neg");
	refused("", "negative");
	attr("size", "99999999999999999999");
	put_pax();
	put(.name = "huge");
	refused("", "overflow");
	tarmake_header(&tar, &(struct tarmake){.name = "neg"});
	tarmake_base256(tar.data + 124, 12, -512);
	tarmake_checksum(tar.data);
	refused("", "negative");
	/* PAX overrules a size in the header. */
	attr("size", "3");
	put_pax();
	put(.name = "f", .data = "abc", .size = 3);
	scan();
	assert_int_equal(next(ENTRY_REG, "f").size, 3);
}

/* As `umoci insert` writes them. */
static void tars_without_the_last_padding(void **state)
{
	size_t len;

	put(.name = "a", .data = "0123456789", .size = 10);
	put(.name = "b", .data = "0123456789", .size = 10);
	len = tar.len;
	for (size_t missing = 1; missing <= 502; missing += 167) {
		tar.len = len - missing;
		scan();
		next(ENTRY_REG, "a");
		next(ENTRY_REG, "b");
		no_more();
	}
	tar.len = 0;
}

static void tars_that_are_cut(void **state)
{
	size_t len;

	put(.name = "a", .data = "0123456789", .size = 10);
	put(.name = "b", .data = "0123456789", .size = 10);
	len = tar.len;
	scan(); /* no end marker: accepted, as everywhere */
	next(ENTRY_REG, "a");
	next(ENTRY_REG, "b");
	no_more();
	tar.len = len - 600;
	refused_with(-EBADMSG, "", "");
	tar.len = len - 510;
	refused_with(-EBADMSG, "'b'", "Truncated");
	tar.len = len - 503;
	refused_with(-EBADMSG, "'b'", "Truncated");
	tar.len = 300;
	refused("", "no tar");
	put(.name = "a");
	tar.data[0] = 'b'; /* the checksum does not fit any more */
	refused("", "no tar");
	put(.name = "a");
	put(.name = "b");
	tar.data[512] = 'c';
	refused("byte", "Damaged");
	attr("path", "long");
	put_pax();
	refused("", "damaged");
	attr("path", "long");
	pax.data[1] = '1';
	put_pax();
	put(.name = "f");
	refused("", "malformed");
}

static void the_end(void **state)
{
	scan();
	no_more();
	tarmake_end(&tar);
	scan();
	no_more();
	buf_clear(&tar);
	put(.name = "a");
	tarmake_end(&tar);
	put(.name = "behind the end");
	buf_put_zeros(&tar, 700000);
	buf_put_str(&tar, "junk");
	scan();
	next(ENTRY_REG, "a");
	no_more();
	buf_clear(&tar);
	put(.name = "a", .data = "x", .size = 1);
	buf_put_zeros(&tar, 512);
	scan(); /* half an end marker */
	next(ENTRY_REG, "a");
	no_more();
}

/* Headers that lie across the blocks libarchive is fed with, and data that ends at their border. */
static void headers_across_blocks(void **state)
{
	static const size_t block = 256 << 10;
	static uint8_t data[300 << 10];
	char value[5000];

	memset(value, 'v', sizeof(value));
	for (size_t before = 0; before < 8192; before += 512) {
		struct entry x;

		buf_clear(&tar);
		put(.name = "fill", .data = data, .size = block - 512 - before);
		tarmake_record(&pax, "SCHILY.xattr.user.v", value, sizeof(value));
		attr("path", "across");
		put_pax();
		put(.name = "cut", .data = "abc", .size = 3);
		put(.name = "link", .type = '1', .link = "fill");
		put(.name = "after", .data = "xyz", .size = 3);
		scan();
		next(ENTRY_REG, "fill");
		x = next(ENTRY_REG, "across");
		assert_memory_equal(tar.data + x.tar_offset, "abc", 3);
		assert_int_equal(x.nxattrs, 1);
	}
}

static void failures_of_the_stream(void **state)
{
	struct drip s;
	struct err e = ERR_INIT;

	put(.name = "a", .data = "0123456789", .size = 10);
	for (size_t len = 0; len <= tar.len; len += 512) {
		s = drip_of(tar.data, len, 100);
		s.code = -ETIMEDOUT;
		buf_clear(&toc);
		assert_int_equal(tarscan(&s.s, "layer X", &toc, &nentries, &e), -ETIMEDOUT);
	}
}

static void a_full_table_of_contents(void **state)
{
	struct err e = ERR_INIT;
	struct drip s;

	put(.name = "a");
	put(.name = "b");
	s = drip_of(tar.data, tar.len, 1000);
	buf_free(&toc);
	buf_init(&toc, 60);
	assert_int_equal(tarscan(&s.s, "layer X", &toc, &nentries, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "larger than 60 bytes"));
}

/* What a process does that has no files: anything that is opened kills it. */
static int scan_without_files(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct err e = ERR_INIT;

	if (seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(openat), 0) < 0 ||
	    seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(open), 0) < 0 ||
	    seccomp_load(filter) < 0)
		return 2;
	return scan_step(MAX_TAR, &e) < 0;
}

static void scans_without_a_file_system(void **state)
{
	int status;
	pid_t pid;

	attr("path", "caf\xc3\xa9");
	put_pax();
	put(.name = "cut");
	tarmake_end(&tar);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		tarscan_prepare();
		_exit(scan_without_files());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
		test(scans_without_a_file_system), /* first: what it needs may not be there yet */
		test(every_type),
		test(sparse_members),
		test(hard_links_with_sizes),
		test(links_that_are_none),
		test(types_that_are_refused),
		test(global_headers_and_labels),
		test(big_sizes),
		test(tars_without_the_last_padding),
		test(tars_that_are_cut),
		test(the_end),
		test(headers_across_blocks),
		test(failures_of_the_stream),
		test(a_full_table_of_contents),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
