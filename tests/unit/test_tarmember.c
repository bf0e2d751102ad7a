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

#include "tests/unit/scan.h"

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

int main(void)
{
#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	static const struct CMUnitTest tests[] = {
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
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
