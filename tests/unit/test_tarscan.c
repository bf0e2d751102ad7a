/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"
#include "oci/index/tarscan.h"
#include "oci/stream.h"
#include "tests/unit/packing.h"
#include "tests/unit/tarmake.h"

#define MAX_TAR ((size_t)64 << 20)

/* The tar under construction and what became of it; fresh in every test. */
static struct buf tar, pax, toc;
static struct toc_reader *reader;
static uint64_t nentries;

static int setup(void **state)
{
	buf_init(&tar, MAX_TAR);
	buf_init(&pax, MAX_TAR);
	buf_init(&toc, LIMIT_TOC);
	reader = NULL;
	return 0;
}

static int teardown(void **state)
{
	buf_free(&tar);
	buf_free(&pax);
	buf_free(&toc);
	toc_reader_free(reader);
	return 0;
}

#define put(...)         tarmake_put(&tar, &(struct tarmake){__VA_ARGS__})
#define put_pax()        tarmake_pax(&tar, &pax)
#define attr(key, value) tarmake_record_str(&pax, key, value)

static int scan_step(size_t step, struct err *e)
{
	struct drip s = drip_of(tar.data, tar.len, step);

	assert_int_equal(tar.failed, 0);
	buf_clear(&toc);
	return tarscan(&s.s, "layer X", &toc, &nentries, e);
}

/* Scans what was put, without an end marker; then next() hands out the entries. */
static void scan(void)
{
	static const size_t steps[] = {1000, 512, MAX_TAR};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(steps); i++)
		if (scan_step(steps[i], &e) < 0)
			fail_msg("%s", e.text);
	reader = toc_reader_free(reader);
	assert_int_equal(toc_reader_new(toc.data, toc.len, nentries, tar.len, &reader), 0);
}

static struct entry next(enum entry_type type, const char *path)
{
	struct entry entry = {0};
	struct err e = ERR_INIT;
	int r = toc_next(reader, &entry, &e);

	if (r != 1)
		fail_msg("no entry for %s: %s", path, e.text);
	assert_string_equal(entry.path, path);
	assert_int_equal(entry.type, type);
	return entry;
}

static void no_more(void)
{
	struct entry entry;

	assert_int_equal(toc_next(reader, &entry, NULL), 0);
}

/* The tar is refused with @code and both texts in the message. */
static void refused_with(int code, const char *name, const char *why)
{
	struct err e = ERR_INIT;

	assert_int_equal(scan_step(MAX_TAR, &e), code);
	if (!strstr(e.text, name) || !strstr(e.text, why))
		fail_msg("'%s' and '%s' not in '%s'", name, why, e.text);
	assert_int_equal(e.code, code);
	assert_int_equal(scan_step(512, NULL), code);
}

static void refused(const char *name, const char *why)
{
	refused_with(-EBADMSG, name, why);
	buf_clear(&tar);
}

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

static void names_are_anchored(void **state)
{
	static const char *const roots[] = {"./", ".", "/", "/./", ".//."};

	for (size_t i = 0; i < ARRAY_LEN(roots); i++)
		put(.name = roots[i], .type = '5', .mode = 0755);
	put(.name = "/etc/passwd");
	put(.name = "./etc/./group");
	put(.name = "etc//shadow");
	put(.name = "...");
	put(.name = "..a/.b");
	put(.name = "old-style-directory/");
	put(.name = "x", .type = '1', .link = "/etc//./passwd");
	put(.name = "y", .type = '2', .link = "/.././/");
	scan();
	for (size_t i = 0; i < ARRAY_LEN(roots); i++)
		next(ENTRY_DIR, "");
	next(ENTRY_REG, "etc/passwd");
	next(ENTRY_REG, "etc/group");
	next(ENTRY_REG, "etc/shadow");
	next(ENTRY_REG, "...");
	next(ENTRY_REG, "..a/.b");
	next(ENTRY_DIR, "old-style-directory");
	assert_string_equal(next(ENTRY_HARDLINK, "x").target, "etc/passwd");
	assert_string_equal(next(ENTRY_SYMLINK, "y").target, "/.././/");
	no_more();
}

static void names_that_are_refused(void **state)
{
	put(.name = "../etc/passwd");
	refused("'../etc/passwd'", "\"..\"");
	put(.name = "a/..");
	refused("'a/..'", "\"..\"");
	put(.name = "a", .type = '1', .link = "../b");
	refused("'a'", "\"..\"");
	put(.name = "a", .type = '1', .link = "/");
	refused("'a'", "link target is empty");
	put(.name = "a", .type = '1');
	refused("'a'", "link target");
	put(.name = "a", .type = '2');
	refused("'a'", "link target is empty");
	put(.name = "");
	refused("''", "it has no name");
	put(.name = "/", .type = '2', .link = "x");
	refused("'/'", "root is not a directory");
}

static void long_names(void **state)
{
	static char path[5000], name[300];
	struct entry x;

	/* 4095 bytes in components of 255, by GNU's long name, by PAX and as a link target. */
	memset(path, 'p', sizeof(path));
	for (size_t i = 255; i < 4095; i += 256)
		path[i] = '/';
	path[4095] = '\0';
	tarmake_special(&tar, 'L', path, 4096);
	put(.name = "cut", .magic = "ustar  \0", .data = "gnu", .size = 3);
	attr("path", path);
	put_pax();
	put(.name = "cut", .data = "pax", .size = 3);
	tarmake_special(&tar, 'K', path, 4096);
	put(.name = "link", .magic = "ustar  \0", .type = '2', .link = "cut");
	attr("linkpath", path);
	put_pax();
	put(.name = "hard", .type = '1', .link = "cut");
	scan();
	x = next(ENTRY_REG, path);
	assert_memory_equal(tar.data + x.tar_offset, "gnu", 3);
	x = next(ENTRY_REG, path);
	assert_memory_equal(tar.data + x.tar_offset, "pax", 3);
	assert_string_equal(next(ENTRY_SYMLINK, "link").target, path);
	assert_string_equal(next(ENTRY_HARDLINK, "hard").target, path);
	no_more();

	buf_clear(&tar);
	path[4095] = 'p';
	path[4096] = '\0';
	attr("path", path);
	put_pax();
	put(.name = "cut");
	refused("pppp", "longer than 4095");
	attr("linkpath", path);
	put_pax();
	put(.name = "link", .type = '2', .link = "cut");
	refused("'link'", "longer than 4095");
	memset(name, 'n', 256);
	attr("path", name);
	put_pax();
	put(.name = "cut");
	refused("nnnn", "longer than 255");
}

/* Bytes in, bytes out: UTF-8 composed and decomposed, Latin-1, junk; in PAX and outside. */
static void names_are_bytes(void **state)
{
	static const char *const names[] = {"caf\xc3\xa9", "cafe\xcc\x81",     "caf\xe9",
					    "\xff\xfe",    "\xf0\x9f\x8f\x94", "\xed\xa0\x80",
					    "a\nb\x01"};
	static const char *const locales[] = {"C", "C.UTF-8"};

	for (size_t l = 0; l < ARRAY_LEN(locales); l++) {
		assert_non_null(setlocale(LC_ALL, locales[l]));
		buf_clear(&tar);
		for (size_t i = 0; i < ARRAY_LEN(names); i++) {
			put(.name = names[i], .type = '2', .link = names[i]);
			attr("path", names[i]);
			attr("linkpath", names[i]);
			attr("uname", names[i]);
			put_pax();
			put(.name = "cut", .type = '2', .link = "cut");
			attr("hdrcharset", "BINARY");
			attr("path", names[i]);
			put_pax();
			put(.name = "cut", .data = "x", .size = 1);
		}
		scan();
		for (size_t i = 0; i < ARRAY_LEN(names); i++) {
			assert_string_equal(next(ENTRY_SYMLINK, names[i]).target, names[i]);
			assert_string_equal(next(ENTRY_SYMLINK, names[i]).target, names[i]);
			next(ENTRY_REG, names[i]);
		}
		no_more();
	}
	setlocale(LC_ALL, "C");
	buf_clear(&tar);
	attr("path", "d\xc3\xa9/");
	put_pax();
	put(.name = "cut");
	scan();
	next(ENTRY_DIR, "d\xc3\xa9");
}

static void nul_bytes_are_refused(void **state)
{
	tarmake_record(&pax, "path", "a\0b", 3);
	put_pax();
	put(.name = "cut");
	refused("'a'", "NUL");
	tarmake_record(&pax, "linkpath", "a\0b", 3);
	put_pax();
	put(.name = "l", .type = '2', .link = "cut");
	refused("'l'", "NUL");
	tarmake_record(&pax, "SCHILY.xattr.user.a\0b", "v", 1);
	buf_clear(&pax);
	buf_put(&pax, "26 SCHILY.xattr.user.a\0b=", 25);
	buf_put(&pax, "\n", 1);
	put_pax();
	put(.name = "f");
	refused("", "");
}

static void whiteouts(void **state)
{
	put(.name = "a/.wh.gone", .mode = 0644, .uid = 5, .mtime = 7, .data = "zz", .size = 2);
	put(.name = ".wh.top", .type = '5');
	put(.name = "a/.wh..wh..opq");
	put(.name = ".wh..wh..opq");
	put(.name = "a/.wh..wh.aufs");
	put(.name = ".wh..wh.plnk/", .type = '5');
	put(.name = ".wh..wh.plnk/123.456");
	put(.name = "a/.wh..hidden");
	put(.name = "a/.wh....");
	put(.name = "a/x.wh.y");
	scan();
	next(ENTRY_WHITEOUT, "a/gone");
	next(ENTRY_WHITEOUT, "top");
	next(ENTRY_OPAQUE, "a");
	next(ENTRY_OPAQUE, "");
	next(ENTRY_WHITEOUT, "a/.hidden");
	next(ENTRY_WHITEOUT, "a/...");
	next(ENTRY_REG, "a/x.wh.y");
	no_more();

	buf_clear(&tar);
	put(.name = "a/.wh.");
	refused("'a/.wh.'", "whiteout without a name");
	put(.name = "a/.wh..");
	refused("'a/.wh..'", "\".\"");
	put(.name = "a/.wh...");
	refused("'a/.wh...'", "\"..\"");
}

static void xattrs(void **state)
{
	struct entry x;

	attr("SCHILY.xattr.user.zz", "last");
	attr("SCHILY.xattr.user.empty", "");
	tarmake_record(&pax, "SCHILY.xattr.security.capability", "\1\0\0\2\0\n=\0", 8);
	attr("SCHILY.xattr.trusted.overlay.opaque", "y");
	attr("SCHILY.xattr.user.overlay.redirect", "/etc");
	attr("SCHILY.xattr.trusted.x", "t");
	attr("SCHILY.xattr.btrfs.compression", "zstd");
	attr("SCHILY.xattr.system.posix_acl_access", "raw");
	attr("SCHILY.xattr.system.nfs4_acl", "raw");
	attr("SCHILY.xattr.user.", "nameless");
	attr("SCHILY.xattr.user.zz", "really last");
	attr("SCHILY.acl.access", "user::rw-,user:lisa:r--:1000,group::r--,mask::r--,other::---");
	attr("RHT.security.selinux", "system_u:object_r:bin_t:s0");
	put_pax();
	put(.name = "f", .data = "f", .size = 1);
	put(.name = "g");
	scan();
	x = next(ENTRY_REG, "f");
	assert_int_equal(x.nxattrs, 6);
	assert_string_equal(x.xattrs[0].name, "security.capability");
	assert_int_equal(x.xattrs[0].value_len, 8);
	assert_memory_equal(x.xattrs[0].value, "\1\0\0\2\0\n=\0", 8);
	assert_string_equal(x.xattrs[1].name, "security.selinux");
	assert_string_equal(x.xattrs[2].name, "system.posix_acl_access");
	assert_string_equal(x.xattrs[3].name, "trusted.x");
	assert_string_equal(x.xattrs[4].name, "user.empty");
	assert_int_equal(x.xattrs[4].value_len, 0);
	assert_string_equal(x.xattrs[5].name, "user.zz");
	assert_int_equal(x.xattrs[5].value_len, 11);
	assert_int_equal(next(ENTRY_REG, "g").nxattrs, 0);
	no_more();
}

static void too_many_or_too_large_xattrs(void **state)
{
	char *big = calloc(1, LIMIT_XATTR_VALUE + 1);
	char name[64];

	tarmake_record(&pax, "SCHILY.xattr.user.big", big, LIMIT_XATTR_VALUE);
	put_pax();
	put(.name = "f");
	scan();
	assert_int_equal(next(ENTRY_REG, "f").xattrs[0].value_len, LIMIT_XATTR_VALUE);
	buf_clear(&tar);
	tarmake_record(&pax, "SCHILY.xattr.user.big", big, LIMIT_XATTR_VALUE + 1);
	put_pax();
	put(.name = "f");
	refused("'f'", "larger than 65535");
	for (unsigned i = 0; i <= LIMIT_XATTRS; i++) {
		snprintf(name, sizeof(name), "SCHILY.xattr.user.%u", i);
		attr(name, "");
	}
	put_pax();
	put(.name = "f");
	refused("'f'", "more than 1024");
	free(big);
}

static void times(void **state)
{
	static const struct {
		const char *text;
		int64_t sec;
		uint32_t ns;
	} t[] = {
		{"1700000000.123456789", 1700000000, 123456789},
		{"1700000000.5", 1700000000, 500000000},
		{"0", 0, 0},
		{"-1", -1, 0},
		{"99999999999", 99999999999, 0},
		{"99999999999999999999999999", INT64_MAX, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		attr("mtime", t[i].text);
		put_pax();
		put(.name = "f", .mtime = 1);
	}
	put(.name = "f", .mtime = -5);
	scan();
	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct entry x = next(ENTRY_REG, "f");

		assert_int_equal(x.mtime, t[i].sec);
		assert_int_equal(x.mtime_ns, t[i].ns);
	}
	assert_int_equal(next(ENTRY_REG, "f").mtime, -5);
	no_more();
}

static void owners_and_devices_out_of_range(void **state)
{
	struct entry x;

	put(.name = "f", .uid = 4294967294u, .gid = 4294967294u);
	scan();
	x = next(ENTRY_REG, "f");
	assert_int_equal(x.uid, 4294967294u);
	assert_int_equal(x.gid, 4294967294u);
	buf_clear(&tar);
	put(.name = "f", .uid = 4294967295u);
	refused("'f'", "owner or group");
	attr("gid", "-2");
	put_pax();
	put(.name = "f");
	refused("'f'", "owner or group");
	attr("uid", "99999999999999999999");
	put_pax();
	put(.name = "f");
	refused("'f'", "owner or group");
	put(.name = "c", .type = '3', .major = 4096);
	refused("'c'", "device number");
	put(.name = "c", .type = '4', .minor = 1048576);
	refused("'c'", "device number");
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
	memset(tar.data + 124, 0xff, 4);
	tarmake_checksum(tar.data);
	refused("", "negative");
	/* PAX overrules a size in the header. */
	attr("size", "3");
	put_pax();
	put(.name = "f", .data = "abc", .size = 3);
	scan();
	assert_int_equal(next(ENTRY_REG, "f").size, 3);
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
	tar.len = len - 1;
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

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
		test(every_type),
		test(names_are_anchored),
		test(names_that_are_refused),
		test(long_names),
		test(names_are_bytes),
		test(nul_bytes_are_refused),
		test(whiteouts),
		test(xattrs),
		test(too_many_or_too_large_xattrs),
		test(times),
		test(owners_and_devices_out_of_range),
		test(sparse_members),
		test(hard_links_with_sizes),
		test(links_that_are_none),
		test(types_that_are_refused),
		test(global_headers_and_labels),
		test(big_sizes),
		test(tars_that_are_cut),
		test(the_end),
		test(headers_across_blocks),
		test(failures_of_the_stream),
		test(a_full_table_of_contents),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
