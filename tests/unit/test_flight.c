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

/* --- the way of a span --- */

static void demand_is_written_then_durable(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	want(x, 3, 3, PRIO_DEMAND);
	wait_for(&rechecks, 1);
	assert_int_equal(count(x, 3, 3, SPAN_DIRTY), 1);
	tar_is_right(x, 3, 3);
	assert_int_equal(synced, 0);
	wait_state(x, 3, 3, SPAN_CLEAN);
	wait_for(&synced, 1);
	assert_int_equal(count(x, 0, last_span(x), SPAN_ABSENT), (int)last_span(x));
	assert_int_equal(opens, 1);
	assert_int_equal(denials, 0);
	assert_int_equal(completed, 0);
	want(x, last_span(x), last_span(x), PRIO_DEMAND);
	wait_state(x, last_span(x), last_span(x), SPAN_CLEAN);
	tar_is_right(x, last_span(x), last_span(x));
	assert_int_equal(opens, 1);
}

static void a_filled_layer_becomes_complete(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	add_fetcher(x);
	want(x, 0, last_span(x), PRIO_FILL);
	wait_for(&completed, 1);
	tar_is_right(x, 0, last_span(x));
	assert_true(x->layer.complete);
	assert_false(x->layer.quarantined);
	assert_int_equal(x->en.count.filled, x->blob.tar.len);
	assert_true(x->en.count.fetched > 0);
}

static int do_quarantined(void *ctx)
{
	return ((struct fixture *)ctx)->layer.quarantined;
}

static void a_whole_that_is_not_the_layer_is_quarantined(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	x->layer.index.diff_id.sum[0] ^= 1;
	want(x, 0, last_span(x), PRIO_FILL);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	for (int i = 0; i < 12000 && loop_call(x->en.loop, do_quarantined, x) == 0; i++)
		usleep(5000);
	assert_true(x->layer.quarantined);
	assert_false(x->layer.complete);
	assert_int_equal(completed, 0);
}

static void one_frame_is_streamed_whole(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	want(x, last_span(x) - 2, last_span(x) - 2, PRIO_DEMAND);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	tar_is_right(x, 0, last_span(x));
	assert_int_equal(x->en.count.fetched, x->blob.bytes.len);
}

/* --- order --- */

static int do_forget(void *ctx)
{
	struct ask *a = ctx;

	flight_forget(a->x->en.flight, a->l);
	return 0;
}

static int do_inflight(void *ctx)
{
	return (int)((struct ask *)ctx)->l->inflight;
}

static void neighbours_are_one_job_and_demand_is_first(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int puppet[2];

	want(x, 0, 9, PRIO_FILL);
	want(x, 12, 17, PRIO_DEMAND);
	puppet[0] = add_puppet(x);
	assert_true(puppet_job(puppet[0], &job, 5000));
	assert_int_equal(job.op, FETCH_SPANS);
	assert_int_equal(job.first_span, 12);
	assert_int_equal(job.nspans, 4);
	assert_int_equal(job.tar_size, x->blob.tar.len);
	assert_true(digest_equal(&job.source.blob, &x->blob.digest));
	puppet[1] = add_puppet(x);
	assert_true(puppet_job(puppet[1], &job, 5000));
	assert_int_equal(job.first_span, 16);
	assert_int_equal(job.nspans, 2);
	close(puppet[0]);
	close(puppet[1]);
}

static void background_leaves_a_fetcher_to_demand(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a = add_puppet(x), b = add_puppet(x), first, second;

	want(x, 0, 18, PRIO_FILL);
	first = puppet_job(a, &job, 1000) ? a : b;
	second = first == a ? b : a;
	if (first == b)
		assert_true(puppet_job(b, &job, 5000));
	assert_int_equal(job.first_span, 0);
	assert_int_equal(job.nspans, 8);
	assert_false(puppet_job(second, &job, 300));
	want(x, 15, 15, PRIO_DEMAND);
	assert_true(puppet_job(second, &job, 5000));
	assert_int_equal(job.first_span, 15);
	assert_int_equal(job.nspans, 4);
	close(a);
	close(b);
}

static void layers_take_turns(void **state)
{
	struct fixture *x = *state;
	struct layer other = x->layer;
	struct ask a = {.x = x, .l = &other, .prio = PRIO_DEMAND, .first = 7, .last = 7};
	static struct fetch_job job;
	int puppet[3];

	/* Everybody reads all of one layer; then somebody needs one span of another. */
	assert_int_equal(layer_spans_new(&other), 0);
	want(x, 0, last_span(x), PRIO_DEMAND);
	loop_call(x->en.loop, do_want, &a);
	for (int i = 0; i < 3; i++) {
		puppet[i] = add_puppet(x);
		assert_true(puppet_job(puppet[i], &job, 5000));
		assert_int_equal(job.first_span, i == 0 ? 0 : i == 1 ? 7 : 4);
		assert_int_equal(job.nspans, i == 1 ? 1 : 4);
	}
	loop_call(x->en.loop, do_forget, &a);
	for (int i = 0; i < 3; i++)
		close(puppet[i]);
	for (int i = 0; i < 500 && loop_call(x->en.loop, do_inflight, &a) > 0; i++)
		usleep(5000);
	assert_int_equal(other.nabsent, other.index.nspans);
	layer_spans_free(&other);
}

static void a_queued_span_gains_priority_and_is_asked_once(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a;

	want(x, 0, 5, PRIO_FILL);
	want(x, 5, 5, PRIO_DEMAND);
	want(x, 5, 5, PRIO_DEMAND);
	a = add_puppet(x);
	assert_true(puppet_job(a, &job, 5000));
	assert_int_equal(job.first_span, 5);
	assert_int_equal(job.nspans, 1);
	want(x, 5, 5, PRIO_DEMAND);
	assert_false(puppet_job(a, &job, 200));
	close(a);
}

/* --- sources --- */

static int do_spoil_digest(void *ctx)
{
	((struct fixture *)ctx)->digests[4].sum[0] ^= 1;
	return 0;
}

static int do_wrong(void *ctx)
{
	const struct layer_source *s = ((struct fixture *)ctx)->sources;

	return s->bad ? (int)s->wrong : 0;
}

static void without_a_deadline_wrong_bytes_are_asked_for_again(void **state)
{
	struct fixture *x = *state;

	/* What the source gives is wrong until the test says that it is right. */
	x->en.slots->settings.deadline_ms = DEADLINE_NEVER;
	do_spoil_digest(x);
	add_fetcher(x);
	want(x, 4, 4, PRIO_DEMAND);
	for (int i = 0; i < 12000 && loop_call(x->en.loop, do_wrong, x) < 2; i++)
		usleep(5000);
	assert_int_equal(denials + rechecks, 0);
	assert_int_equal(count(x, 4, 4, SPAN_QUEUED), 1);
	loop_call(x->en.loop, do_spoil_digest, x);
	wait_state(x, 4, 4, SPAN_DIRTY);
	assert_int_equal(loop_call(x->en.loop, do_wrong, x), 0);
	assert_int_equal(denials, 0);
}

static void wrong_bytes_of_a_file_are_an_error_at_once(void **state)
{
	struct fixture *x = *state;

	do_spoil_digest(x);
	add_fetcher(x);
	want(x, 4, 4, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, EIO);
	assert_int_equal(denied_span, 4);
	assert_int_equal(count(x, 4, 4, SPAN_ABSENT), 1);
	assert_int_equal(x->sources[0].wrong, 1);
	/* Others of its spans can be right. */
	want(x, 5, 5, PRIO_DEMAND);
	wait_for(&rechecks, 1);
	assert_int_equal(denials, 1);
}

static void another_source_is_asked_after_a_bad_one(void **state)
{
	struct fixture *x = *state;
	uint8_t bad[4096];

	/* The first source's blob is damaged in its middle, the second's is not. */
	add_source(x);
	memset(bad, 0xff, sizeof(bad));
	x->sources[0].fd = memfd_create("bad", MFD_CLOEXEC);
	x->sources[0].opened = true;
	assert_int_equal(fd_write_full(x->sources[0].fd, x->blob.bytes.data, x->blob.bytes.len), 0);
	assert_int_equal(
		__real_fd_pwrite_full(x->sources[0].fd, bad, sizeof(bad), x->blob.bytes.len / 2),
		0);
	add_fetcher(x);
	want(x, 0, last_span(x), PRIO_DEMAND);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	tar_is_right(x, 0, last_span(x));
	/* Whether the first is still held to be bad depends on which of its spans was looked at
	 * last. */
	assert_true(x->sources[1].opened);
	assert_false(x->sources[1].bad);
	assert_int_equal(denials, 0);
}

/* Span 1, which the first source refused, is wanted before span 5. */
static int do_want_refused(void *ctx)
{
	struct fixture *x = ctx;

	x->sources[1].not_before_ms = clock_ms() + 60000;
	flight_want(x->en.flight, &x->layer, 1, 1, PRIO_DEMAND);
	x->layer.spans[1].refused = 1;
	flight_want(x->en.flight, &x->layer, 5, 5, PRIO_DEMAND);
	return 0;
}

static void who_waits_for_another_source_holds_up_nobody(void **state)
{
	struct fixture *x = *state;

	add_source(x);
	add_fetcher(x);
	loop_call(x->en.loop, do_want_refused, x);
	wait_state(x, 5, 5, SPAN_CLEAN);
	assert_int_equal(count(x, 1, 1, SPAN_QUEUED), 1);
	assert_int_equal(denials, 0);
}

static void make_remote(struct fixture *x)
{
	x->sources[0].at.local = 0;
	snprintf(x->sources[0].at.at.host, sizeof(x->sources[0].at.at.host), "registry.test");
	snprintf(x->sources[0].at.at.repo, sizeof(x->sources[0].at.at.repo), "image");
}

static void a_passing_failure_is_not_seen(void **state)
{
	struct fixture *x = *state;

	open_result = -EAGAIN;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&opens, 3);
	assert_int_equal(denials, 0);
	open_result = 0;
	wait_state(x, 2, 2, SPAN_DIRTY);
	tar_is_right(x, 2, 2);
	assert_int_equal(x->sources[0].fails, 0);
}

static void a_lasting_failure_ends_at_the_deadline(void **state)
{
	struct fixture *x = *state;
	uint64_t began = clock_ms();

	x->en.slots->settings.deadline_ms = 1000;
	open_result = -EAGAIN;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, EIO);
	assert_true(clock_ms() - began >= 1000);
	/* At most after 50, 100, 200, 400, 800 ms and so on. */
	assert_in_range(opens, 1, 7);
	assert_int_equal(count(x, 2, 2, SPAN_ABSENT), 1);
}

static void a_blob_that_is_gone_is_denied_at_once(void **state)
{
	struct fixture *x = *state;

	open_result = -ENOENT;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, EIO);
	/* And served when it is back. */
	open_result = 0;
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
}

static void a_registry_that_has_it_not_is_not_asked_for_each_span(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a;

	make_remote(x);
	want(x, 2, 5, PRIO_DEMAND);
	a = add_puppet(x);
	assert_true(puppet_job(a, &job, 5000));
	assert_int_equal(job.source.local, 0);
	assert_string_equal(job.source.at.host, "registry.test");
	puppet_say(a, FETCH_FAIL, &job, -ENOENT, "not found");
	wait_for(&denials, 4);
	assert_int_equal(denied_with, EIO);
	assert_int_equal(count(x, 2, 5, SPAN_ABSENT), 4);
	/* Another reader makes it ask again. */
	want(x, 3, 3, PRIO_DEMAND);
	assert_true(puppet_job(a, &job, 5000));
	close(a);
}

static void background_goes_back_to_absent(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a = add_puppet(x);

	want(x, 0, 3, PRIO_AHEAD);
	assert_true(puppet_job(a, &job, 5000));
	puppet_say(a, FETCH_FAIL, &job, -ETIMEDOUT, "slow\nlink");
	wait_state(x, 0, 3, SPAN_ABSENT);
	assert_int_equal(denials, 0);
	assert_string_equal(x->sources[0].last_error, "slow?link");
	close(a);
}

/* --- the end of a layer --- */

static int do_drain(void *ctx)
{
	struct ask *a = ctx;

	flight_drain(a->x->en.flight, &a->x->layer, set_result, NULL);
	return 0;
}

static void a_drained_layer_is_left_alone(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x};

	add_fetcher(x);
	want(x, 0, 2, PRIO_DEMAND);
	wait_state(x, 0, 2, SPAN_DIRTY);
	want(x, 0, last_span(x), PRIO_FILL);
	loop_call(x->en.loop, do_drain, &a);
	wait_result(0);
	assert_int_equal(x->layer.inflight, 0);
	assert_int_equal(x->layer.nbusy, 0);
	assert_int_equal(x->layer.ndirty, 0);
	assert_null(x->layer.sync_timer);
	assert_int_equal(count(x, 0, 2, SPAN_CLEAN), 3);
	assert_true(count(x, 0, last_span(x), SPAN_ABSENT) > 0);
}

static void a_long_stream_is_cut_off_by_a_drain(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct ask a = {.x = x};
	int puppet = add_puppet(x);
	char c;

	want(x, 0, 0, PRIO_DEMAND);
	assert_true(puppet_job(puppet, &job, 5000));
	assert_int_equal(job.nspans, x->layer.index.nspans);
	loop_call(x->en.loop, do_drain, &a);
	wait_result(0);
	assert_true(recv(puppet, &c, 1, 0) <= 0);
	assert_int_equal(count(x, 0, last_span(x), SPAN_ABSENT), (int)x->layer.index.nspans);
	close(puppet);
}

static void latency_is_told_in_percentiles(void **state)
{
	struct fixture *x = *state;
	uint64_t p50, p99, max;

	flight_latency(x->en.flight, &p50, &p99, &max);
	assert_int_equal(p50 + p99 + max, 0);
	for (uint64_t i = 1; i <= 4096 + 904; i++)
		flight_latency_add(x->en.flight, (i <= 904 ? 9999999 : i - 904) * 1000);
	flight_latency(x->en.flight, &p50, &p99, &max);
	assert_int_equal(p50, 2048);
	assert_in_range(p99, 4050, 4060);
	assert_int_equal(max, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		gzip_test(demand_is_written_then_durable),
		gzip_test(a_filled_layer_becomes_complete),
		gzip_test(a_whole_that_is_not_the_layer_is_quarantined),
		zstd_test(one_frame_is_streamed_whole),
		gzip_test(neighbours_are_one_job_and_demand_is_first),
		gzip_test(background_leaves_a_fetcher_to_demand),
		gzip_test(layers_take_turns),
		gzip_test(a_queued_span_gains_priority_and_is_asked_once),
		gzip_test(without_a_deadline_wrong_bytes_are_asked_for_again),
		gzip_test(wrong_bytes_of_a_file_are_an_error_at_once),
		gzip_test(another_source_is_asked_after_a_bad_one),
		gzip_test(who_waits_for_another_source_holds_up_nobody),
		gzip_test(a_passing_failure_is_not_seen),
		gzip_test(a_lasting_failure_ends_at_the_deadline),
		gzip_test(a_blob_that_is_gone_is_denied_at_once),
		gzip_test(a_registry_that_has_it_not_is_not_asked_for_each_span),
		gzip_test(background_goes_back_to_absent),
		gzip_test(a_drained_layer_is_left_alone),
		zstd_test(a_long_stream_is_cut_off_by_a_drain),
		gzip_test(latency_is_told_in_percentiles),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
