/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SCAN_H
#define TESTS_UNIT_SCAN_H

/*
 * For tests of the tar scanner: a tar is put together member by member, scanned, and its entries
 * come out one by one. Include it after cmocka.h.
 */

#include <stdint.h>
#include <string.h>

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

static _unused_ int setup(void **state)
{
	buf_init(&tar, MAX_TAR);
	buf_init(&pax, MAX_TAR);
	buf_init(&toc, LIMIT_TOC);
	reader = NULL;
	return 0;
}

static _unused_ int teardown(void **state)
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

static _unused_ int scan_step(size_t step, struct err *e)
{
	struct drip s = drip_of(tar.data, tar.len, step);

	assert_int_equal(tar.failed, 0);
	buf_clear(&toc);
	return tarscan(&s.s, "layer X", &toc, &nentries, e);
}

/* Scans what was put, without an end marker; then next() hands out the entries. */
static _unused_ void scan(void)
{
	static const size_t steps[] = {1000, 512, MAX_TAR};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(steps); i++)
		if (scan_step(steps[i], &e) < 0)
			fail_msg("%s", e.text);
	reader = toc_reader_free(reader);
	assert_int_equal(toc_reader_new(toc.data, toc.len, nentries, tar.len, &reader), 0);
}

static _unused_ struct entry next(enum entry_type type, const char *path)
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

static _unused_ void no_more(void)
{
	struct entry entry;

	assert_int_equal(toc_next(reader, &entry, NULL), 0);
}

/* The tar is refused with @code and both texts in the message. */
static _unused_ void refused_with(int code, const char *name, const char *why)
{
	struct err e = ERR_INIT;

	assert_int_equal(scan_step(MAX_TAR, &e), code);
	if (!strstr(e.text, name) || !strstr(e.text, why))
		fail_msg("'%s' and '%s' not in '%s'", name, why, e.text);
	assert_int_equal(e.code, code);
	assert_int_equal(scan_step(512, NULL), code);
}

static _unused_ void refused(const char *name, const char *why)
{
	refused_with(-EBADMSG, name, why);
	buf_clear(&tar);
}

#endif
