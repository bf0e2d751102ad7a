/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=fd_pwrite_full -Wl,--wrap=fd_pread_full */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/flight_fixture.h"

/* --- fetchers --- */

static void a_killed_fetcher_is_not_seen(void **state)
{
	struct fixture *x = *state;
	pid_t pid = add_fetcher(x);

	kill(pid, SIGSTOP);
	want(x, 0, 11, PRIO_DEMAND);
	usleep(100000);
	kill(pid, SIGKILL);
	usleep(100000);
	assert_int_equal(count(x, 0, 11, SPAN_QUEUED), 12);
	add_fetcher(x);
	wait_state(x, 0, 11, SPAN_CLEAN);
	tar_is_right(x, 0, 11);
	assert_int_equal(denials, 0);
}

static void the_tenth_death_fails_the_source_for_the_span(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;

	want(x, 6, 8, PRIO_DEMAND);
	for (int i = 0; i < 10; i++) {
		int a = add_puppet(x);

		assert_true(puppet_job(a, &job, 5000));
		assert_int_equal(job.first_span, 6);
		assert_int_equal(job.nspans, i ? 1 : 3);
		assert_int_equal(denials, 0);
		close(a);
	}
	add_fetcher(x);
	wait_for(&denials, 1);
	assert_int_equal(denied_span, 6);
	wait_state(x, 7, 8, SPAN_DIRTY);
	assert_int_equal(denials, 1);
	/* Nor is it tried again. */
	want(x, 6, 6, PRIO_DEMAND);
	wait_for(&denials, 2);
}

/* What the first @there spans are is not looked at: to the layer they are there. */
static void pretend(struct fixture *x, uint32_t there, enum span_state state)
{
	struct ask a = {.x = x, .last = there - 1, .state = state};

	loop_call(x->en.loop, do_set, &a);
}

/* A fetcher passes the spans before @span, and ends: with @code, or by dying (0). */
static void ends_at(struct fixture *x, uint32_t span, int code)
{
	static struct fetch_job job;
	struct fetch_note n = {.op = FETCH_SPAN, .len = FIXTURE_SPAN};
	int a = add_puppet(x);

	assert_true(puppet_job(a, &job, 5000));
	assert_int_equal(job.first_span, 0);
	n.id = job.id;
	for (; n.span < span; n.span++) {
		n.slot = n.span % FETCH_SLOTS;
		assert_int_equal(keep_sendmsg(a, &n, sizeof(n), NULL, 0), 0);
	}
	if (code < 0)
		puppet_say(a, FETCH_FAIL, &job, code, "the test says");
	else
		assert_int_equal(denials, 0);
	close(a);
}

/* It may be one that nobody asked for, as nothing behind it comes without it. */
static void the_tenth_death_on_the_way_fails_the_source_for_what_follows(void **state)
{
	struct fixture *x = *state;

	pretend(x, 6, SPAN_CLEAN);
	want(x, 8, 8, PRIO_DEMAND);
	for (int i = 0; i < 10; i++)
		ends_at(x, 5, 0);
	add_fetcher(x);
	wait_for(&denials, 1);
	assert_int_equal(denied_span, 8);
	want(x, 20, 20, PRIO_DEMAND);
	wait_for(&denials, 2);
	/* What comes before it can be had. */
	pretend(x, 6, SPAN_ABSENT);
	want(x, 4, 4, PRIO_DEMAND);
	wait_state(x, 0, 4, SPAN_CLEAN);
	tar_is_right(x, 0, 4);
	assert_int_equal(denials, 2);
}

static void what_ends_on_the_way_is_refused_what_follows(void **state)
{
	struct fixture *x = *state;

	/* So that it is not the deadline that ends it. */
	x->en.slots->settings.deadline_ms = DEADLINE_NEVER;
	pretend(x, 6, SPAN_CLEAN);
	want(x, 8, 8, PRIO_DEMAND);
	ends_at(x, 5, -ENODATA);
	wait_for(&denials, 1);
	assert_int_equal(denied_span, 8);
	assert_int_equal(denied_with, EIO);
}

/* A file gives the same bytes again: nobody waits for what is behind the damage. */
static void damage_on_the_way_is_refused_what_follows(void **state)
{
	struct fixture *x = *state;

	x->en.slots->settings.deadline_ms = 3600000;
	pretend(x, 6, SPAN_CLEAN);
	want(x, 8, 8, PRIO_DEMAND);
	ends_at(x, 5, -EBADMSG);
	wait_for(&denials, 1);
	assert_int_equal(denied_span, 8);
	assert_int_equal(denied_with, EIO);
	/* What comes before it can be had, and what was only passed is not held against it. */
	pretend(x, 6, SPAN_ABSENT);
	assert_int_equal(x->layer.spans[5].refused, 0);
	want(x, 4, 4, PRIO_DEMAND);
	add_fetcher(x);
	wait_state(x, 0, 4, SPAN_CLEAN);
	tar_is_right(x, 0, 4);
	assert_int_equal(denials, 1);
}

/* Whatever a source is failed for, another one is asked for all of it. */
static void another_source_gives_what_follows(struct fixture *x, int times, int code)
{
	add_source(x);
	pretend(x, 6, SPAN_CLEAN);
	want(x, 8, 8, PRIO_DEMAND);
	for (int i = 0; i < times; i++)
		ends_at(x, 5, code);
	assert_false(x->sources[1].opened);
	pretend(x, 6, SPAN_ABSENT);
	add_fetcher(x);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	tar_is_right(x, 0, last_span(x));
	assert_true(x->sources[1].opened);
	assert_int_equal(denials, 0);
}

static void what_kills_is_had_from_another_source(void **state)
{
	another_source_gives_what_follows(*state, 10, 0);
}

static void what_is_damaged_is_had_from_another_source(void **state)
{
	another_source_gives_what_follows(*state, 1, -EBADMSG);
}

static int do_want_refused(void *ctx)
{
	struct ask *a = ctx;

	flight_want(a->x->en.flight, &a->x->layer, a->first, a->last, PRIO_DEMAND);
	for (uint32_t i = a->first; i <= a->last; i++)
		a->x->layer.spans[i].refused = 1;
	return 0;
}

/* What one source cannot give is part of a run of the other. */
static void what_another_source_refused_is_merged(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct ask a = {.x = x, .first = 6, .last = 8};

	add_source(x);
	loop_call(x->en.loop, do_want_refused, &a);
	a.sock = add_puppet(x);
	assert_true(puppet_job(a.sock, &job, 5000));
	assert_int_equal(job.first_span, 6);
	assert_int_equal(job.nspans, 3);
	close(a.sock);
}

static int do_forgive(void *ctx)
{
	struct ask *a = ctx;

	a->x->layer.spans[a->first].deaths = 0;
	return 0;
}

static void forgive(struct fixture *x, uint32_t span)
{
	struct ask a = {.x = x, .first = span};

	loop_call(x->en.loop, do_forgive, &a);
}

static void nonsense_is_dropped(struct fixture *x, struct fetch_note note)
{
	static struct fetch_job job;
	int a = add_puppet(x);
	char c;

	gone_pid = 0;
	want(x, 9, 9, PRIO_DEMAND);
	assert_true(puppet_job(a, &job, 5000));
	note.id += job.id;
	assert_int_equal(keep_sendmsg(a, &note, sizeof(note), NULL, 0), 0);
	assert_true(recv(a, &c, 1, 0) <= 0);
	close(a);
	assert_int_equal(count(x, 9, 9, SPAN_QUEUED), 1);
	/* It may not go by itself, and nobody would take its place. */
	for (int i = 0; i < 500 && gone_pid == 0; i++)
		usleep(10000);
	assert_int_equal(gone_pid, PUPPET_PID);
}

static void who_talks_nonsense_is_dropped(void **state)
{
	struct fixture *x = *state;
	static const struct fetch_note good = {.op = FETCH_SPAN, .span = 9, .len = FIXTURE_SPAN};
	struct fetch_note bad = good;
	int a;

	bad.id = 1;
	nonsense_is_dropped(x, bad);
	bad = good;
	bad.slot = FETCH_SLOTS;
	nonsense_is_dropped(x, bad);
	forgive(x, 9);
	bad = good;
	bad.len = FIXTURE_SPAN + 1;
	nonsense_is_dropped(x, bad);
	bad = good;
	bad.span = 10;
	nonsense_is_dropped(x, bad);
	forgive(x, 9);
	bad.op = FETCH_DONE;
	nonsense_is_dropped(x, bad);
	bad.op = FETCH_BYTES;
	nonsense_is_dropped(x, bad);
	forgive(x, 9);
	a = add_puppet(x);
	assert_int_equal(keep_sendmsg(a, "hello", 5, NULL, 0), 0);
	close(a);
	add_fetcher(x);
	wait_state(x, 9, 9, SPAN_DIRTY);
	tar_is_right(x, 9, 9);
}

static void what_a_fetcher_makes_up_is_not_written(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct fetch_note n = {.op = FETCH_SPAN, .span = 9, .len = FIXTURE_SPAN};
	uint8_t got[512], zeros[512] = {0};
	int a = add_puppet(x);

	x->en.slots->settings.deadline_ms = 500;
	want(x, 9, 9, PRIO_DEMAND);
	assert_true(puppet_job(a, &job, 5000));
	n.id = job.id;
	assert_int_equal(keep_sendmsg(a, &n, sizeof(n), NULL, 0), 0);
	wait_for(&denials, 1);
	assert_true(x->sources[0].bad);
	assert_int_equal(fd_pread_full(x->layer.fd_fill, got, sizeof(got), 9 * FIXTURE_SPAN), 0);
	assert_memory_equal(got, zeros, sizeof(got));
	close(a);
}

static int do_pids(void *ctx)
{
	int32_t pids[4];

	return (int)flight_fetchers(((struct ask *)ctx)->x->en.flight, pids, 4);
}

static void an_unsealed_buffer_is_refused(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .buffer = memfd_create("buffer", MFD_CLOEXEC)};
	int pair[2];

	assert_int_equal(ftruncate(a.buffer, (off_t)FETCH_BUFFER_SIZE), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	a.sock = pair[0];
	assert_int_equal(loop_call(x->en.loop, do_add, &a), -EINVAL);
	assert_int_equal(loop_call(x->en.loop, do_pids, &a), 0);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		gzip_test(a_killed_fetcher_is_not_seen),
		gzip_test(the_tenth_death_fails_the_source_for_the_span),
		zstd_test(the_tenth_death_on_the_way_fails_the_source_for_what_follows),
		zstd_test(what_ends_on_the_way_is_refused_what_follows),
		zstd_test(damage_on_the_way_is_refused_what_follows),
		zstd_test(what_kills_is_had_from_another_source),
		zstd_test(what_is_damaged_is_had_from_another_source),
		gzip_test(what_another_source_refused_is_merged),
		gzip_test(who_talks_nonsense_is_dropped),
		gzip_test(what_a_fetcher_makes_up_is_not_written),
		gzip_test(an_unsealed_buffer_is_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
