/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/stream.h"

#define TEXT "0123456789abcdef"

static int file_of(const char *text)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static void test_mem_reads_in_pieces_and_ends(void **state)
{
	_cleanup_(stream_freep) struct stream *s = NULL;
	char buf[16];

	assert_int_equal(stream_of_mem(TEXT, 10, &s), 0);
	assert_int_equal(stream_read(s, buf, 4, NULL), 4);
	assert_memory_equal(buf, "0123", 4);
	assert_int_equal(stream_read(s, buf, 0, NULL), 0);
	assert_int_equal(stream_read(s, buf, 16, NULL), 6);
	assert_memory_equal(buf, "456789", 6);
	assert_int_equal(stream_read(s, buf, 16, NULL), 0);
	assert_int_equal(stream_read(s, buf, 16, NULL), 0);
}

static void test_fd_reads_its_range_only(void **state)
{
	_cleanup_fd_ int fd = file_of(TEXT);
	_cleanup_(stream_freep) struct stream *s = NULL;
	char buf[32];

	assert_int_equal(lseek(fd, 3, SEEK_SET), 3);
	assert_int_equal(stream_of_fd(fd, 5, 7, &s), 0);
	assert_int_equal(stream_read(s, buf, 3, NULL), 3);
	assert_memory_equal(buf, "567", 3);
	assert_int_equal(stream_read(s, buf, 32, NULL), 4);
	assert_memory_equal(buf, "89ab", 4);
	assert_int_equal(stream_read(s, buf, 32, NULL), 0);
	/* The descriptor is the caller's: its own offset has not moved. */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 3);
}

static void test_fd_that_ends_inside_the_range(void **state)
{
	_cleanup_fd_ int fd = file_of(TEXT);
	_cleanup_(stream_freep) struct stream *s = NULL;
	struct err e = ERR_INIT;
	char buf[32];

	assert_int_equal(stream_of_fd(fd, 10, 8, &s), 0);
	assert_int_equal(stream_read(s, buf, 32, &e), 6);
	assert_int_equal(stream_read(s, buf, 32, &e), -ENODATA);
	assert_non_null(strstr(e.text, "offset 16, 2 bytes early"));
}

static void test_fd_that_cannot_be_read(void **state)
{
	_cleanup_(stream_freep) struct stream *s = NULL;
	struct err e = ERR_INIT;
	char buf[1];

	assert_int_equal(stream_of_fd(-1, 0, 1, &s), 0);
	assert_int_equal(stream_read(s, buf, 1, &e), -EBADF);
	assert_int_equal(e.code, -EBADF);
}

static void test_fd_range_past_what_offsets_hold(void **state)
{
	struct stream *s = NULL;

	assert_int_equal(stream_of_fd(0, UINT64_MAX, 2, &s), -EOVERFLOW);
	assert_int_equal(stream_of_fd(0, INT64_MAX, 1, &s), -EOVERFLOW);
	assert_null(s);
}

/* A source that gives one byte at a time, then fails. */
struct trickle {
	struct stream s;
	int left;
	int end; /* what the read past the last byte returns */
};

static ssize_t trickle_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct trickle *t = (struct trickle *)s;

	if (t->left == 0)
		return t->end ? err_set(e, t->end, "trickle") : 0;
	t->left--;
	*(char *)buf = 'x';
	return 1;
}

static void test_read_full_puts_pieces_together(void **state)
{
	struct trickle t = {.s.read = trickle_read, .left = 5};
	char buf[5];

	assert_int_equal(stream_read_full(&t.s, buf, 5, NULL), 0);
	assert_memory_equal(buf, "xxxxx", 5);
	assert_int_equal(stream_read_full(&t.s, buf, 0, NULL), 0);
}

static void test_read_full_tells_an_early_end_from_a_failure(void **state)
{
	struct trickle ends = {.s.read = trickle_read, .left = 3};
	struct trickle fails = {.s.read = trickle_read, .left = 3, .end = -ECONNRESET};
	struct err e = ERR_INIT;
	char buf[5];

	assert_int_equal(stream_read_full(&ends.s, buf, 5, &e), -ENODATA);
	assert_non_null(strstr(e.text, "3 of 5"));
	assert_int_equal(stream_read_full(&fails.s, buf, 5, &e), -ECONNRESET);
	assert_string_equal(e.text, "trickle");
}

static void test_free_takes_null(void **state)
{
	assert_null(stream_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mem_reads_in_pieces_and_ends),
		cmocka_unit_test(test_fd_reads_its_range_only),
		cmocka_unit_test(test_fd_that_ends_inside_the_range),
		cmocka_unit_test(test_fd_that_cannot_be_read),
		cmocka_unit_test(test_fd_range_past_what_offsets_hold),
		cmocka_unit_test(test_read_full_puts_pieces_together),
		cmocka_unit_test(test_read_full_tells_an_early_end_from_a_failure),
		cmocka_unit_test(test_free_takes_null),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
