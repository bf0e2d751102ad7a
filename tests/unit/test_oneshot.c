/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "tests/unit/fill_fixture.h"

#define NOTES_MAX 8

/* --- the keeper: gives out real fetchers, or children that say what a test tells them to --- */

static struct fetch_note script[NOTES_MAX];
static uint32_t nscript; /* 0: a real one */
static pid_t child;
static int32_t gone; /* pid that was to be killed */
static int refuse;

static pid_t puppet_start(int *ret_sock, int *ret_buffer)
{
	int pair[2];
	pid_t pid;

	*ret_buffer = buffer_new();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		static struct fetch_job job;
		char c;

		close(pair[0]);
		if (recv(pair[1], &job, sizeof(job), 0) != sizeof(job))
			_exit(1);
		for (uint32_t i = 0; i < nscript; i++) {
			script[i].id += job.id;
			/* The script's word for "wait for an ACK and die". */
			if (script[i].op == FETCH_ACK)
				_exit((int)recv(pair[1], &c, 1, 0));
			if (send(pair[1], &script[i], sizeof(script[i]), MSG_NOSIGNAL) < 0)
				_exit(1);
		}
		while (recv(pair[1], &c, 1, 0) > 0)
			;
		_exit(0);
	}
	close(pair[1]);
	*ret_sock = pair[0];
	return pid;
}

int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e)
{
	if (req->op == KEEP_FETCHER_GONE) {
		gone = req->fetcher.pid;
		return 0;
	}
	assert_int_equal(req->op, KEEP_FETCHER);
	if (refuse < 0)
		return err_errno(e, refuse, "the test says");
	child = nscript ? puppet_start(&fds[0], &fds[1]) : fetcher_start(&fds[0], &fds[1]);
	rep->fetcher.pid = child;
	return 0;
}

/* The socket is full: what is not a call is lost. */
int keep_send(struct keep *k, struct keep_request *req)
{
	return -EAGAIN;
}

/* --- what comes --- */

struct seen {
	const struct blob *blob;
	uint32_t spans, bytes;
	int answer; /* of the callback */
	struct diff_ids ids;
};

static int see(void *ctx, const struct fetch_note *n, const void *data, struct err *e)
{
	struct seen *s = ctx;

	if (n->op == FETCH_BYTES) {
		s->bytes++;
		if (n->len == sizeof(s->ids))
			memcpy(&s->ids, data, n->len);
	} else {
		if (s->blob)
			assert_memory_equal(data, s->blob->tar.data + n->span * FIXTURE_SPAN,
					    n->len);
		s->spans++;
	}
	return s->answer < 0 ? err_set(e, s->answer, "enough") : 0;
}

static struct oneshot *start(void)
{
	struct engine en = {.keep = NULL};
	struct err e = ERR_INIT;
	struct oneshot *o = NULL;

	gone = 0;
	assert_int_equal(oneshot_new(&en, &o, &e), 0);
	return o;
}

/* Whatever happened, the keeper is told, and a fetcher that is well ends by itself. */
static void stop(struct oneshot *o)
{
	int status;

	oneshot_free(o);
	assert_int_equal(gone, child);
	assert_int_equal(waitpid(child, &status, 0), child);
	nscript = 0;
}

static struct fetch_job *index_job(const struct blob *b)
{
	static struct fetch_job job;

	memset(&job, 0, sizeof(job));
	job.op = FETCH_INDEX;
	job.source.local = 1;
	job.source.blob = b->digest;
	job.source.blob_size = b->bytes.len;
	job.span_size = FIXTURE_SPAN;
	snprintf(job.what, sizeof(job.what), "layer of the test");
	return &job;
}

static void an_index_is_made(void **state)
{
	struct blob b;
	struct seen seen = {.blob = &b};
	struct fetch_note final;
	struct err e = ERR_INIT;
	struct oneshot *o = start();
	int fds[3];

	blob_make(&b, CODEC_GZIP, 10 * FIXTURE_SPAN);
	fds[0] = b.fd;
	fds[1] = memfd_create("toc", 0);
	fds[2] = memfd_create("map", 0);
	assert_int_equal(oneshot_run(o, index_job(&b), fds, 3, see, &seen, &final, &e), 0);
	assert_int_equal(seen.spans, (b.tar.len + FIXTURE_SPAN - 1) / FIXTURE_SPAN);
	assert_int_equal(final.tar_size, b.tar.len);
	assert_int_equal(final.nentries, 1);
	assert_true(lseek(fds[1], 0, SEEK_END) > 0);
	assert_true(lseek(fds[2], 0, SEEK_END) > 0);
	stop(o);
	close(fds[1]);
	close(fds[2]);
	blob_free(&b);
}

static void documents_come_and_a_failure_does_not_end_it(void **state)
{
	static const char text[] =
		"{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:0123456789abcdef0123456789"
		"abcdef0123456789abcdef0123456789abcdef\"]}}";
	static struct fetch_job job;
	struct seen seen = {.blob = NULL};
	struct err e = ERR_INIT;
	struct oneshot *o = start();

	memset(&job, 0, sizeof(job));
	job.op = FETCH_PARSE_CONFIG;
	job.len = 5;
	snprintf(job.what, sizeof(job.what), "the config");
	memcpy(oneshot_slot(o, 0), text, sizeof(text));
	assert_int_equal(oneshot_run(o, &job, NULL, 0, see, &seen, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.text, "the config"));
	assert_int_equal(gone, 0);
	job.len = sizeof(text) - 1;
	memcpy(oneshot_slot(o, 0), text, sizeof(text));
	assert_int_equal(oneshot_run(o, &job, NULL, 0, see, &seen, NULL, &e), 0);
	assert_int_equal(seen.bytes, 1);
	assert_int_equal(seen.ids.n, 1);
	assert_int_equal(seen.ids.id[0].sum[31], 0xef);
	stop(o);
}

static void who_listens_may_stop_it(void **state)
{
	struct blob b;
	struct seen seen = {.blob = &b, .answer = -ECANCELED};
	struct err e = ERR_INIT;
	struct oneshot *o = start();
	int fds[3];

	blob_make(&b, CODEC_GZIP, 10 * FIXTURE_SPAN);
	fds[0] = fds[1] = fds[2] = b.fd;
	assert_int_equal(oneshot_run(o, index_job(&b), fds, 3, see, &seen, NULL, &e), -ECANCELED);
	assert_string_equal(e.text, "enough");
	assert_int_equal(seen.spans, 1);
	assert_int_equal(gone, child);
	assert_int_equal(oneshot_run(o, index_job(&b), fds, 3, see, &seen, NULL, &e), -EPIPE);
	stop(o);
	blob_free(&b);
}

static void a_keeper_that_has_none_is_told(void **state)
{
	struct engine en = {.keep = NULL};
	struct err e = ERR_INIT;
	struct oneshot *o = NULL;

	refuse = -EAGAIN;
	assert_int_equal(oneshot_new(&en, &o, &e), -EAGAIN);
	assert_null(o);
	assert_non_null(strstr(e.text, "cannot start a fetcher"));
	refuse = 0;
}

/* Plays the script as answer to an index job of 64 KiB spans. */
static void expect(const struct fetch_note *notes, uint32_t n, int result, uint32_t spans)
{
	struct blob b = {.bytes.len = 1000};
	struct seen seen = {.blob = NULL};
	struct fetch_note final;
	struct err e = ERR_INIT;
	struct oneshot *o;

	memcpy(script, notes, n * sizeof(*notes));
	nscript = n;
	o = start();
	assert_int_equal(oneshot_run(o, index_job(&b), NULL, 0, see, &seen, &final, &e), result);
	assert_int_equal(seen.spans, spans);
	assert_int_equal(gone, result == 0 ? 0 : child);
	stop(o);
}

static void nothing_it_says_is_believed(void **state)
{
	struct fetch_note n[NOTES_MAX] = {
		{.op = FETCH_SPAN, .span = 0, .len = FIXTURE_SPAN},
		{.op = FETCH_SPAN, .span = 1, .len = 100, .slot = 3},
		{.op = FETCH_DONE, .tar_size = FIXTURE_SPAN + 100},
	};

	expect(n, 3, 0, 2);
	/* Behind a short span there is none. */
	n[2] = (struct fetch_note){.op = FETCH_SPAN, .span = 2, .len = 100};
	expect(n, 3, -EPROTO, 2);
	n[1].span = 2;
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_SPAN, .span = 1, .len = FIXTURE_SPAN + 1};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_SPAN, .span = 1, .len = 0};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_SPAN, .span = 1, .len = 10, .slot = FETCH_SLOTS};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_BYTES, .len = 10};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_DONE, .id = 1};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_FAIL, .code = 5};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = 99};
	expect(n, 2, -EPROTO, 1);
	n[1] = (struct fetch_note){.op = FETCH_ACK};
	expect(n, 2, -EPIPE, 1);
}

static void its_words_are_made_printable(void **state)
{
	struct blob b = {.bytes.len = 1000};
	struct seen seen = {.blob = NULL};
	struct err e = ERR_INIT;
	struct oneshot *o;

	script[0] = (struct fetch_note){.op = FETCH_FAIL, .code = -EBADMSG};
	memset(script[0].text, '\n', sizeof(script[0].text));
	nscript = 1;
	o = start();
	assert_int_equal(oneshot_run(o, index_job(&b), NULL, 0, see, &seen, NULL, &e), -EBADMSG);
	assert_null(strchr(e.text, '\n'));
	assert_int_equal(strlen(e.text), sizeof(script[0].text) - 1);
	stop(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_index_is_made),
		cmocka_unit_test(documents_come_and_a_failure_does_not_end_it),
		cmocka_unit_test(who_listens_may_stop_it),
		cmocka_unit_test(a_keeper_that_has_none_is_told),
		cmocka_unit_test(nothing_it_says_is_believed),
		cmocka_unit_test(its_words_are_made_printable),
	};

	signal(SIGPIPE, SIG_IGN);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
