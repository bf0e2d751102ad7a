/* SPDX-License-Identifier: Apache-2.0 */
/* Children without rights (plugin/isolate.c): what comes back from them, and what ends them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/isolate.h"
#include "tests/hostile/attempts.h"

#define ENDED "the process that parses image data ended unexpectedly"

/* Memory that a child tells us through what it got as far as. */
static volatile int *seen;

static int call(int (*fn)(void *, struct buf *, struct err *), void *ctx, struct buf *out,
		size_t max, struct err *e)
{
	*e = (struct err)ERR_INIT;
	*seen = 0;
	buf_init(out, max);
	return isolate_call(fn, ctx, out, e);
}

static int put_text(void *ctx, struct buf *out, struct err *e)
{
	const char *text = ctx;

	return buf_put(out, text, strlen(text));
}

static void result_comes_back(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(put_text, (void *)"hello", &out, 100, &e), 0);
	assert_int_equal(out.len, 5);
	assert_memory_equal(out.data, "hello", 5);
	/* Behind what is there already. */
	assert_int_equal(isolate_call(put_text, (void *)", world", &out, &e), 0);
	assert_int_equal(out.len, 12);
	assert_memory_equal(out.data, "hello, world", 12);
	buf_free(&out);
	assert_int_equal(call(put_text, (void *)"", &out, 100, &e), 0);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

/* More than a pipe holds, from memory that the child has to ask for. */
#define BIG (8u << 20)

static int put_big(void *ctx, struct buf *out, struct err *e)
{
	for (size_t i = 0; i < BIG; i += 4096) {
		char page[4096];

		memset(page, (int)(i >> 12) & 0xff, sizeof(page));
		if (buf_put(out, page, sizeof(page)) < 0)
			return out->failed;
	}
	return 0;
}

static void a_big_result(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(put_big, NULL, &out, BIG, &e), 0);
	assert_int_equal(out.len, BIG);
	assert_int_equal(out.data[BIG - 1], ((BIG >> 12) - 1) & 0xff);
	buf_free(&out);
	assert_int_equal(call(put_big, NULL, &out, BIG - 1, &e), -EFBIG);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

static int refuse(void *ctx, struct buf *out, struct err *e)
{
	buf_put(out, "half", 4);
	return err_set(e, -EBADMSG, "line 3: %s", (const char *)ctx);
}

static void error_text_comes_back(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(refuse, (void *)"no such key", &out, 100, &e), -EBADMSG);
	assert_string_equal(e.text, "line 3: no such key");
	assert_int_equal(e.code, -EBADMSG);
	assert_int_equal(out.len, 0);
	assert_int_equal(isolate_call(refuse, (void *)"x", &out, NULL), -EBADMSG);
	buf_free(&out);
}

/* --- what ends a child; each would say so if it got past --- */

static int past(void)
{
	*seen = 1;
	return 0;
}

static int try_crash(void *ctx, struct buf *out, struct err *e)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
	return past();
}

static int try_exit(void *ctx, struct buf *out, struct err *e)
{
	_exit(0);
}

/* The child's result is EIO with nothing in it, and it did not get past what ended it. */
static void expect_ended(int (*fn)(void *, struct buf *, struct err *), void *ctx, const char *what)
{
	struct buf out;
	struct err e;
	int r = call(fn, ctx, &out, 100, &e);

	if (r != -EIO || strcmp(e.text, ENDED) != 0 || *seen || out.len)
		fail_msg("%s: %d, %s, got to %d", what, r, e.text, *seen);
	buf_free(&out);
}

static int make_attempt(void *ctx, struct buf *out, struct err *e)
{
	((const struct attempt *)ctx)->run();
	return past();
}

static void forbidden_calls_end_a_parser(void **state)
{
	expect_ended(try_crash, NULL, "crash");
	expect_ended(try_exit, NULL, "exit");
	for (size_t i = 0; i < nattempts; i++)
		expect_ended(make_attempt, (void *)&attempts[i], attempts[i].name);
	/* None is left behind. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static int use_descriptor(void *ctx, struct buf *out, struct err *e)
{
	*seen = 1;
	if (write(*(int *)ctx, "x", 1) == 1)
		*seen = 2;
	return 0;
}

/* What the caller has open, its connection to tarnd above all, is not for the child. */
static void no_descriptor_is_inherited(void **state)
{
	struct buf out;
	struct err e;
	int p[2];

	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	assert_int_equal(call(use_descriptor, &p[1], &out, 100, &e), 0);
	assert_int_equal(*seen, 1);
	buf_free(&out);
	close(p[0]);
	close(p[1]);
}

/* It dies after it announced more than it could send. */
static int lie(void *ctx, struct buf *out, struct err *e)
{
	const struct {
		int32_t code;
		uint32_t len;
		char text[ERR_TEXT_MAX];
		char some[10];
	} head = {.len = 1000, .some = "truncated"};

	for (int fd = 3; fd < 64; fd++)
		if (write(fd, &head, sizeof(head)) > 0)
			_exit(0);
	return -EBADF;
}

static void half_a_result_is_none(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(lie, NULL, &out, 2000, &e), -EIO);
	assert_string_equal(e.text, ENDED);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

int main(void)
{
	int memory = memfd_create("seen", MFD_CLOEXEC);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forbidden_calls_end_a_parser),
		cmocka_unit_test(result_comes_back),
		cmocka_unit_test(a_big_result),
		cmocka_unit_test(error_text_comes_back),
		cmocka_unit_test(no_descriptor_is_inherited),
		cmocka_unit_test(half_a_result_is_none),
	};

	if (memory < 0 || ftruncate(memory, 4096) < 0)
		return 1;
	seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (seen == MAP_FAILED)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("isolate", tests + BUT_STRICT(1),
				       ARRAY_LEN(tests) - BUT_STRICT(1), NULL, NULL);
}
