/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=fd_pwrite_full -Wl,--wrap=fd_pread_full */
/* link: -Wl,--wrap=pages_hold -Wl,--wrap=pages_drop */
#include <errno.h>
#include <fcntl.h>
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

/* --- the store --- */

static void a_full_store_is_told(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	write_result = -ENOSPC;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, ENOSPC);
	assert_int_equal(count(x, 1, 1, SPAN_ABSENT), 1);
	write_result = -EDQUOT;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&denials, 2);
	assert_int_equal(denied_with, EDQUOT);
	write_result = -EROFS;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&denials, 3);
	assert_int_equal(denied_with, EIO);
	assert_false(x->sources[0].bad);
	write_result = 0;
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_DIRTY);
}

static int do_room(void *ctx)
{
	struct ask *a = ctx;

	flight_room(a->x->en.flight, (int)a->state);
	return 0;
}

static void room(struct fixture *x, int err)
{
	struct ask a = {.x = x, .state = (enum span_state)err};

	loop_call(x->en.loop, do_room, &a);
}

static void readers_wait_while_room_is_made(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	fake_space.makes = true;
	write_result = -ENOSPC;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&fake_space.wants, 1);
	assert_int_equal(fake_space.want_err, -ENOSPC);
	assert_true(fake_space.want_disk);
	/* Nothing is fetched meanwhile. */
	want(x, 2, 2, PRIO_DEMAND);
	usleep(100000);
	assert_int_equal(count(x, 1, 2, SPAN_QUEUED), 2);
	assert_int_equal(fake_space.wants, 1);
	assert_int_equal(denials, 0);
	write_result = 0;
	room(x, 0);
	wait_state(x, 1, 2, SPAN_DIRTY);
	assert_int_equal(fake_space.taken, 2 * FIXTURE_SPAN);
	/* In vain: whoever waits is told, and goes on later. */
	fake_space.taking = -EDQUOT;
	want(x, 3, 3, PRIO_DEMAND);
	wait_for(&fake_space.wants, 2);
	assert_false(fake_space.want_disk);
	want(x, 4, 4, PRIO_DEMAND);
	room(x, -EDQUOT);
	wait_for(&denials, 2);
	assert_int_equal(denied_with, EDQUOT);
	assert_int_equal(count(x, 3, 4, SPAN_ABSENT), 2);
	fake_space.taking = 0;
	want(x, 3, 4, PRIO_DEMAND);
	wait_state(x, 3, 4, SPAN_DIRTY);
	assert_int_equal(fake_space.taken, 4 * FIXTURE_SPAN);
}

static int do_stop(void *ctx)
{
	((struct fixture *)ctx)->en.stopping = true;
	return 0;
}

/* No room is made any more: that is for the next engine, which finds them where they are. */
static void readers_on_a_full_store_wait_over_a_stop(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	loop_call(x->en.loop, do_stop, x);
	write_result = -ENOSPC;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&fake_space.gave_back, 1);
	usleep(100000);
	assert_int_equal(count(x, 1, 1, SPAN_QUEUED), 1);
	assert_int_equal(denials, 0);
	assert_int_equal(fake_space.gave_back, 1);
}

static void what_nobody_waits_for_makes_no_room(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	fake_space.makes = true;
	fake_space.taking = -EDQUOT;
	want(x, 1, 3, PRIO_FILL);
	wait_state(x, 1, 3, SPAN_ABSENT);
	assert_int_equal(fake_space.wants, 0);
	assert_int_equal(denials, 0);
}

static int do_hit(void *ctx)
{
	struct ask *a = ctx;

	return flight_hit_ok(a->x->en.flight, &a->x->layer, a->off, a->len);
}

static int hit(struct fixture *x, uint64_t off, uint64_t len)
{
	struct ask a = {.x = x, .off = off, .len = len};

	return loop_call(x->en.loop, do_hit, &a);
}

static void after_a_failed_sync_it_is_seen_what_the_disk_has(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_CLEAN);
	sync_result = -ENOSPC;
	want(x, 4, 5, PRIO_DEMAND);
	wait_for(&rechecks, 3);
	wait_state(x, 4, 5, SPAN_LOST);
	assert_int_equal(count(x, 1, 1, SPAN_CLEAN), 1);
	assert_int_equal(synced, 1);
	assert_non_null(x->layer.spans[4].held);
	sync_result = 0;
	/* Memory has it, for readers. */
	assert_true(hit(x, 4 * FIXTURE_SPAN, 4096));
	want(x, 4, 5, PRIO_FILL);
	assert_int_equal(count(x, 4, 5, SPAN_LOST), 2);
	/* Until it has not. Not at once, as others may have to copy yet what they were let at. */
	spoil(x, 4 * FIXTURE_SPAN);
	assert_false(hit(x, 4 * FIXTURE_SPAN, 4096));
	want(x, 4, 4, PRIO_DEMAND);
	usleep(100000);
	assert_int_equal(count(x, 4, 4, SPAN_CHECKING), 1);
	wait_state(x, 4, 4, SPAN_CLEAN);
	want(x, 5, 5, PRIO_FILL);
	wait_state(x, 5, 5, SPAN_CLEAN);
	assert_null(x->layer.spans[4].held);
	tar_is_right(x, 4, 5);
}

static void a_sync_is_only_good_for_what_was_written_before_it(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	sem_wait(&sync_begun);
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
	sem_post(&sync_go);
	wait_state(x, 1, 1, SPAN_CLEAN);
	assert_int_equal(count(x, 2, 2, SPAN_DIRTY), 1);
	sem_wait(&sync_begun);
	/* And a failure takes also what was written while it ran. */
	want(x, 3, 3, PRIO_DEMAND);
	wait_state(x, 3, 3, SPAN_DIRTY);
	sync_result = -EIO;
	sem_post(&sync_go);
	wait_state(x, 2, 3, SPAN_LOST);
	assert_int_equal(count(x, 1, 1, SPAN_CLEAN), 1);
	sync_gated = false;
}

static void what_was_being_written_when_a_sync_failed_is_not_trusted(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	sem_wait(&sync_begun);
	write_gated = true;
	want(x, 2, 2, PRIO_AHEAD);
	sem_wait(&write_begun);
	sync_result = -EIO;
	sync_gated = false;
	sem_post(&sync_go);
	wait_state(x, 1, 1, SPAN_LOST);
	/* The next fdatasync would be told nothing. */
	sync_result = 0;
	write_gated = false;
	sem_post(&write_go);
	wait_state(x, 2, 2, SPAN_ABSENT);
	/* A reader's span is brought again. */
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_CLEAN);
	tar_is_right(x, 2, 2);
}

static int do_unpark(void *ctx)
{
	struct ask *a = ctx;

	for (uint32_t i = a->first; i <= a->last; i++)
		span_set(&a->x->layer, i, a->x->layer.spans[i].before);
	return 0;
}

static void a_sync_reaches_parked_spans(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .first = 1, .last = 1, .state = SPAN_PARKED};

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_DIRTY);
	loop_call(x->en.loop, do_set, &a);
	sem_wait(&sync_begun);
	want(x, 3, 3, PRIO_DEMAND);
	wait_state(x, 3, 3, SPAN_DIRTY);
	a.first = a.last = 3;
	loop_call(x->en.loop, do_set, &a);
	sem_post(&sync_go);
	wait_for(&synced, 1);
	a.first = 1;
	loop_call(x->en.loop, do_unpark, &a);
	assert_int_equal(count(x, 1, 1, SPAN_CLEAN), 1);
	assert_int_equal(count(x, 3, 3, SPAN_DIRTY), 1);
	assert_true(hit(x, 3 * FIXTURE_SPAN, FIXTURE_SPAN));
	/* Parked again, it is lost with the others. */
	a.first = 3;
	loop_call(x->en.loop, do_set, &a);
	sem_wait(&sync_begun);
	sync_result = -EIO;
	sync_gated = false;
	sem_post(&sync_go);
	wait_for(&rechecks, 3);
	loop_call(x->en.loop, do_unpark, &a);
	assert_int_equal(count(x, 3, 3, SPAN_LOST), 1);
}

static int do_sync(void *ctx)
{
	struct ask *a = ctx;

	flight_sync(a->x->en.flight, &a->x->layer, set_result, NULL);
	return 0;
}

static void who_waits_for_a_sync_gets_one_of_his_own(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x};

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	sem_wait(&sync_begun);
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
	loop_call(x->en.loop, do_sync, &a);
	sem_post(&sync_go);
	sem_wait(&sync_begun);
	assert_int_equal(told_result, 1);
	sem_post(&sync_go);
	wait_result(0);
	assert_int_equal(count(x, 1, 2, SPAN_CLEAN), 2);
	sync_gated = false;
	told_result = 1;
	sync_result = -EIO;
	want(x, 3, 3, PRIO_DEMAND);
	wait_state(x, 3, 3, SPAN_DIRTY);
	loop_call(x->en.loop, do_sync, &a);
	wait_result(-EIO);
	assert_int_equal(count(x, 3, 3, SPAN_LOST), 1);
	told_result = 1;
	loop_call(x->en.loop, do_sync, &a);
	wait_result(0);
}

static void what_lost_a_page_is_not_trusted(void **state)
{
	struct fixture *x = *state;
	uint64_t at = 2 * FIXTURE_SPAN;

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 3, PRIO_DEMAND);
	wait_state(x, 1, 3, SPAN_DIRTY);
	assert_true(hit(x, FIXTURE_SPAN, 3 * FIXTURE_SPAN));
	spoil(x, at + 8192);
	assert_true(hit(x, at, 8192));
	assert_true(hit(x, at + 12288, FIXTURE_SPAN));
	assert_false(hit(x, at - 4096, 16384));
	assert_int_equal(count(x, 2, 2, SPAN_UNPROVEN), 1);
	assert_int_equal(count(x, 1, 1, SPAN_DIRTY), 1);
	assert_int_equal(count(x, 3, 3, SPAN_DIRTY), 1);
	sem_post(&sync_go);
	sync_gated = false;
	wait_state(x, 1, 1, SPAN_CLEAN);
	/* What is durable is trusted. */
	spoil(x, FIXTURE_SPAN);
	assert_true(hit(x, FIXTURE_SPAN, 4096));
}

static atomic_bool hold_fails;

void *__real_pages_hold(int fd, uint64_t off, size_t len);
void *__wrap_pages_hold(int fd, uint64_t off, size_t len);
void *__wrap_pages_hold(int fd, uint64_t off, size_t len)
{
	return hold_fails ? NULL : __real_pages_hold(fd, off, len);
}

static void what_cannot_be_held_waits_to_be_durable(void **state)
{
	struct fixture *x = *state;
	unsigned before;

	hold_fails = true;
	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_DIRTY);
	assert_false(hit(x, FIXTURE_SPAN, 4096));
	assert_int_equal(count(x, 1, 1, SPAN_DIRTY), 1);
	sem_wait(&sync_begun);
	before = rechecks;
	sync_gated = false;
	sem_post(&sync_go);
	wait_state(x, 1, 1, SPAN_CLEAN);
	wait_for(&rechecks, before + 1);
	assert_true(hit(x, FIXTURE_SPAN, 4096));
	hold_fails = false;
}

/* An fdatasync that says nothing of what it lost. */
static void what_a_sync_lost_without_a_word_is_not_durable(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 2, PRIO_DEMAND);
	wait_state(x, 1, 2, SPAN_DIRTY);
	sem_wait(&sync_begun);
	sync_gated = false;
	spoil(x, FIXTURE_SPAN + 4096);
	sem_post(&sync_go);
	wait_state(x, 2, 2, SPAN_CLEAN);
	assert_int_equal(count(x, 1, 1, SPAN_UNPROVEN), 1);
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_CLEAN);
	tar_is_right(x, 1, 2);
}

/* --- what a check finds --- */

enum drop { DROP_WELL, DROP_LOSES, DROP_BUSY };
static _Atomic enum drop dropping;

bool __real_pages_drop(int fd, uint64_t off, size_t len);
bool __wrap_pages_drop(int fd, uint64_t off, size_t len);
bool __wrap_pages_drop(int fd, uint64_t off, size_t len)
{
	if (dropping == DROP_BUSY)
		return false;
	/* What the disk has not is zeros. */
	if (dropping == DROP_LOSES)
		assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)off, (off_t)len),
				 0);
	return __real_pages_drop(fd, off, len);
}

static int do_due(void *ctx)
{
	struct fixture *x = ctx;

	for (uint32_t i = 0; i < x->layer.index.nspans; i++)
		x->layer.spans[i].check_ms = 0;
	return 0;
}

/* Span 1 is LOST, and may be read back at once. */
static void lose(struct fixture *x)
{
	add_fetcher(x);
	sync_result = -EIO;
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_LOST);
	sync_result = 0;
	loop_call(x->en.loop, do_due, x);
}

static void what_only_memory_has_is_written_again(void **state)
{
	struct fixture *x = *state;

	lose(x);
	dropping = DROP_LOSES;
	want(x, 1, 1, PRIO_FILL);
	wait_state(x, 1, 1, SPAN_CLEAN);
	dropping = DROP_WELL;
	tar_is_right(x, 1, 1);
	assert_int_equal(x->en.count.filled, FIXTURE_SPAN);
}

static void what_memory_has_not_either_is_fetched_again(void **state)
{
	struct fixture *x = *state;

	lose(x);
	spoil(x, FIXTURE_SPAN);
	want(x, 1, 1, PRIO_FILL);
	wait_state(x, 1, 1, SPAN_CLEAN);
	tar_is_right(x, 1, 1);
	assert_int_equal(x->en.count.filled, 2 * FIXTURE_SPAN);
}

static void what_somebody_has_in_hand_is_seen_later(void **state)
{
	struct fixture *x = *state;

	lose(x);
	dropping = DROP_BUSY;
	want(x, 1, 1, PRIO_FILL);
	wait_state(x, 1, 1, SPAN_LOST);
	assert_true(hit(x, FIXTURE_SPAN, 4096));
	/* Without its pages a reader waits. */
	hold_fails = true;
	loop_call(x->en.loop, do_due, x);
	want(x, 1, 1, PRIO_FILL);
	wait_state(x, 1, 1, SPAN_UNPROVEN);
	want(x, 1, 1, PRIO_DEMAND);
	usleep(100000);
	assert_int_equal(count(x, 1, 1, SPAN_CHECKING), 1);
	hold_fails = false;
	dropping = DROP_WELL;
	wait_state(x, 1, 1, SPAN_CLEAN);
	assert_int_equal(x->en.count.filled, FIXTURE_SPAN);
}

/* --- after an unclean stop --- */

static void a_check_of_the_whole_that_was_disturbed_says_nothing(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .first = 2, .last = 2, .state = SPAN_ABSENT};

	add_fetcher(x);
	whole_gated = true;
	want(x, 0, last_span(x), PRIO_FILL);
	sem_wait(&whole_begun);
	/* As if it were evicted. */
	spoil(x, 2 * FIXTURE_SPAN);
	loop_call(x->en.loop, do_set, &a);
	whole_gated = false;
	sem_post(&whole_go);
	want(x, 2, 2, PRIO_FILL);
	wait_for(&completed, 1);
	assert_false(x->layer.quarantined);
	tar_is_right(x, 0, last_span(x));
}

static void unproven_spans_are_checked_on_first_touch(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .first = 0, .last = last_span(x), .state = SPAN_UNPROVEN};

	assert_int_equal(
		__real_fd_pwrite_full(x->layer.fd_fill, x->blob.tar.data, x->blob.tar.len, 0), 0);
	spoil(x, 5 * FIXTURE_SPAN + 4096);
	loop_call(x->en.loop, do_set, &a);
	want(x, 0, 4, PRIO_DEMAND);
	wait_state(x, 0, 4, SPAN_DIRTY);
	/* There is no fetcher yet: nothing was fetched. */
	want(x, 5, 5, PRIO_DEMAND);
	want(x, 6, last_span(x), PRIO_FILL);
	wait_state(x, 6, last_span(x), SPAN_CLEAN);
	assert_int_equal(count(x, 5, 5, SPAN_QUEUED), 1);
	add_fetcher(x);
	wait_for(&completed, 1);
	tar_is_right(x, 0, last_span(x));
	assert_int_equal(x->en.count.filled, FIXTURE_SPAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		gzip_test(a_full_store_is_told),
		gzip_test(readers_wait_while_room_is_made),
		gzip_test(readers_on_a_full_store_wait_over_a_stop),
		gzip_test(what_nobody_waits_for_makes_no_room),
		gzip_test(after_a_failed_sync_it_is_seen_what_the_disk_has),
		gzip_test(a_sync_is_only_good_for_what_was_written_before_it),
		gzip_test(what_was_being_written_when_a_sync_failed_is_not_trusted),
		gzip_test(a_sync_reaches_parked_spans),
		gzip_test(who_waits_for_a_sync_gets_one_of_his_own),
		gzip_test(what_lost_a_page_is_not_trusted),
		gzip_test(what_cannot_be_held_waits_to_be_durable),
		gzip_test(what_a_sync_lost_without_a_word_is_not_durable),
		gzip_test(what_only_memory_has_is_written_again),
		gzip_test(what_memory_has_not_either_is_fetched_again),
		gzip_test(what_somebody_has_in_hand_is_seen_later),
		gzip_test(a_check_of_the_whole_that_was_disturbed_says_nothing),
		gzip_test(unproven_spans_are_checked_on_first_touch),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
