/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/index/build.h"
#include "oci/index/index.h"
#include "tests/unit/packing.h"

/*
 * Tars under tests/golden/index, and what must come of each: the sha256 of its index, or the
 * words with which it is refused. GOLDEN_WRITE=1 writes them anew; look at what changed.
 */
#define GOLDEN   "tests/golden/index"
#define MAX_TARS 100

static char *names[MAX_TARS];
static size_t nnames;

static bool has_end(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int setup(void **state)
{
	DIR *dir = opendir(GOLDEN);
	struct dirent *de;

	if (!dir)
		return -1;
	while ((de = readdir(dir)) && nnames < MAX_TARS)
		if (has_end(de->d_name, ".tar"))
			names[nnames++] = strndup(de->d_name, strlen(de->d_name) - 4);
	closedir(dir);
	qsort(names, nnames, sizeof(names[0]), by_name);
	return nnames > 0 ? 0 : -1;
}

static int teardown(void **state)
{
	for (size_t i = 0; i < nnames; i++)
		free(names[i]);
	return 0;
}

/* -1 when there is no such file. */
static int read_golden(const char *name, const char *end, struct buf *out)
{
	_cleanup_fd_ int fd = -1;
	char path[512];

	snprintf(path, sizeof(path), GOLDEN "/%s%s", name, end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	buf_init(out, PACKING_MAX);
	if (fd < 0)
		return -1;
	assert_int_equal(fd_read_all(fd, out), 0);
	return 0;
}

/* One line of text. */
static void expect_golden(const char *name, const char *end, const char *got)
{
	_cleanup_buf_ struct buf want, line;

	buf_init(&line, 10000);
	buf_printf(&line, "%s\n", got);
	if (getenv("GOLDEN_WRITE")) {
		_cleanup_fd_ int dir = open(GOLDEN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		char path[512];

		snprintf(path, sizeof(path), "%s%s", name, end);
		assert_int_equal(fd_publish(dir, path, line.data, line.len, 0644, NULL), 0);
	}
	if (read_golden(name, end, &want) < 0)
		fail_msg("%s%s is missing; now it would be: %s", name, end, got);
	if (strcmp(buf_cstr(&want), buf_cstr(&line)) != 0)
		fail_msg("%s%s is %s and should be %s", name, end, got, buf_cstr(&want));
}

static int put_digest(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct digest d;
	int r = digest_of(data, len, &d);

	return r < 0 ? r : buf_put(ctx, d.sum, sizeof(d.sum));
}

/* The pass as the puller does it: blob to table of contents, and that to the index. */
static int make_index(const struct buf *blob, const struct digest *diff_id, struct buf *out,
		      struct err *e)
{
	_cleanup_buf_ struct buf toc, map, digests;
	struct drip s = drip_of(blob->data, blob->len, 50000);
	struct build_input in = {.blob = &s.s,
				 .what = "layer",
				 .blob_size = blob->len,
				 .span_size = LIMIT_SPAN_MIN,
				 .span = put_digest,
				 .ctx = &digests};
	struct build_result res;
	struct index ix;
	int r;

	buf_init(&toc, LIMIT_TOC);
	buf_init(&map, PACKING_MAX);
	buf_init(&digests, PACKING_MAX);
	assert_int_equal(digest_of(blob->data, blob->len, &in.blob_digest), 0);
	r = build_index(&in, &toc, &map, &res, e);
	if (r < 0)
		return r;
	ix = (struct index){.diff_id = *diff_id,
			    .tar_size = res.tar_size,
			    .span_size = LIMIT_SPAN_MIN,
			    .nspans = res.nspans,
			    .nentries = res.nentries,
			    .toc = toc.data,
			    .toc_len = toc.len,
			    .digests = (const struct digest *)digests.data};
	return index_encode(&ix, out);
}

/* Every entry of an index of ours must pass the reader's checks. */
static void expect_readable(const struct buf *index)
{
	_cleanup_(toc_reader_freep) struct toc_reader *r = NULL;
	struct entry entry;
	struct err e = ERR_INIT;
	struct index ix;
	int more;

	assert_int_equal(index_decode(index->data, index->len, "golden", &ix, &e), 0);
	assert_int_equal(toc_reader_new(ix.toc, ix.toc_len, ix.nentries, ix.tar_size, &r), 0);
	while ((more = toc_next(r, &entry, &e)) > 0)
		continue;
	if (more < 0)
		fail_msg("%s", e.text);
}

static void check(const char *name)
{
	_cleanup_buf_ struct buf tar, index, gzip, again;
	char hex[DIGEST_HEX + 1];
	struct err e = ERR_INIT;
	struct digest d;

	assert_int_equal(read_golden(name, ".tar", &tar), 0);
	buf_init(&index, PACKING_MAX);
	buf_init(&again, PACKING_MAX);
	buf_init(&gzip, PACKING_MAX);
	assert_int_equal(digest_of(tar.data, tar.len, &d), 0);
	if (make_index(&tar, &d, &index, &e) < 0) {
		assert_int_equal(index.len, 0);
		expect_golden(name, ".refused", e.text);
		return;
	}
	expect_readable(&index);
	/* The index does not know how the tar was packed. */
	packing_gzip(&gzip, tar.data, tar.len, 6, 0, 0);
	assert_int_equal(make_index(&gzip, &d, &again, &e), 0);
	assert_int_equal(index.len, again.len);
	assert_memory_equal(index.data, again.data, index.len);
	assert_int_equal(digest_of(index.data, index.len, &d), 0);
	expect_golden(name, ".sha256", digest_hex(&d, hex));
}

static void indexes_are_what_they_were(void **state)
{
	for (size_t i = 0; i < nnames; i++)
		if (strncmp(names[i], "refuse-", 7) != 0)
			check(names[i]);
}

static void refusals_are_what_they_were(void **state)
{
	for (size_t i = 0; i < nnames; i++)
		if (strncmp(names[i], "refuse-", 7) == 0)
			check(names[i]);
}

/* A name promises which of the two it is. */
static void nothing_is_missing(void **state)
{
	for (size_t i = 0; i < nnames; i++) {
		_cleanup_buf_ struct buf b;
		bool refused = strncmp(names[i], "refuse-", 7) == 0;

		assert_int_equal(read_golden(names[i], refused ? ".refused" : ".sha256", &b), 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(indexes_are_what_they_were),
		cmocka_unit_test(refusals_are_what_they_were),
		cmocka_unit_test(nothing_is_missing),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
