/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=fd_pwrite_full -Wl,--wrap=fd_pread_full */
/* Registries in trouble, and what they may not do to others (plugin/fill/host.c, source.c). */
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

#define PUPPETS 8

/* The fixture's layer once more, for another host. */
struct twin {
	struct layer layer;
	struct layer_source source;
};

static void make_remote(struct layer_source *s, const char *host)
{
	s->at.local = 0;
	snprintf(s->at.at.host, sizeof(s->at.at.host), "%s", host);
	snprintf(s->at.at.repo, sizeof(s->at.at.repo), "image");
}

static void twin_make(struct fixture *x, struct twin *t, const char *host)
{
	*t = (struct twin){.layer = x->layer, .source = x->sources[0]};
	make_remote(&t->source, host);
	t->layer.sources = &t->source;
	assert_int_equal(layer_spans_new(&t->layer), 0);
}

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

static void twin_end(struct fixture *x, struct twin *t)
{
	struct ask a = {.x = x, .l = &t->layer};

	loop_call(x->en.loop, do_forget, &a);
	for (int i = 0; i < 2000 && loop_call(x->en.loop, do_inflight, &a) > 0; i++)
		usleep(5000);
	layer_spans_free(&t->layer);
}

static void twin_want(struct fixture *x, struct twin *t, uint32_t first, uint32_t last)
{
	struct ask a = {.x = x, .l = &t->layer, .first = first, .last = last, .prio = PRIO_DEMAND};

	loop_call(x->en.loop, do_want, &a);
}

/* The puppet that gets a job next, or -1 when none does for @ms. */
static int next_job(const int *puppet, int n, struct fetch_job *job, int ms)
{
	struct pollfd p[PUPPETS];

	for (int i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = puppet[i], .events = POLLIN};
	if (poll(p, (nfds_t)n, ms) == 0)
		return -1;
	for (int i = 0; i < n; i++)
		if (p[i].revents && puppet_job(puppet[i], job, 0))
			return i;
	return -1;
}

static void close_all(const int *puppet, int n)
{
	for (int i = 0; i < n; i++)
		close(puppet[i]);
}

/* --- tests --- */

static void a_dead_host_does_not_have_all_fetchers(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct twin well;
	int puppet[8];

	make_remote(&x->sources[0], "dead.test");
	twin_make(x, &well, "well.test");
	for (int i = 0; i < 8; i++)
		puppet[i] = add_puppet(x);
	/* Readers all over the place, so that nothing is merged: more than there are fetchers. */
	for (uint32_t i = 0; i <= last_span(x); i += 2)
		want(x, i, i, PRIO_DEMAND);
	for (int i = 0; i < 6; i++)
		assert_true(next_job(puppet, 8, &job, 5000) >= 0);
	assert_int_equal(next_job(puppet, 8, &job, 300), -1);
	/* It says nothing, and the other is asked at once. */
	twin_want(x, &well, 3, 3);
	assert_true(next_job(puppet, 8, &job, 5000) >= 0);
	assert_string_equal(job.source.at.host, "well.test");
	assert_int_equal(denials, 0);
	close_all(puppet, 8);
	twin_end(x, &well);
}

static void a_host_in_trouble_has_two(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job, jobs[8];
	struct twin second, third;
	int puppet[8], at[8], more;

	make_remote(&x->sources[0], "dead.test");
	twin_make(x, &second, "dead.test");
	twin_make(x, &third, "dead.test");
	for (int i = 0; i < 8; i++)
		puppet[i] = add_puppet(x);
	for (uint32_t i = 0; i <= last_span(x); i += 2)
		want(x, i, i, PRIO_DEMAND);
	for (int i = 0; i < 6; i++)
		at[i] = next_job(puppet, 8, &jobs[i], 5000);
	for (int i = 0; i < 6; i++)
		puppet_say(puppet[at[i]], FETCH_FAIL, &jobs[i], -ETIMEDOUT, "no answer");
	/* One layer: one request. Its spans wait, and nobody is denied. */
	assert_true(next_job(puppet, 8, &job, 5000) >= 0);
	assert_int_equal(next_job(puppet, 8, &job, 1000), -1);
	assert_int_equal(denials, 0);
	/* Another layer that wants the same host: one more; a third: none. */
	second.source.fails = third.source.fails = 1;
	twin_want(x, &second, 3, 3);
	more = next_job(puppet, 8, &job, 10000);
	assert_true(more >= 0);
	twin_want(x, &third, 3, 3);
	assert_int_equal(next_job(puppet, 8, &job, 1000), -1);
	close_all(puppet, 8);
	twin_end(x, &second);
	twin_end(x, &third);
}

static void what_a_host_asked_for_counts_for_all_its_layers(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct fetch_note n = {.op = FETCH_FAIL, .code = -EAGAIN, .retry_after_s = 2};
	struct twin other, elsewhere;
	uint64_t began;
	int puppet[4];

	make_remote(&x->sources[0], "busy.test");
	twin_make(x, &other, "busy.test");
	twin_make(x, &elsewhere, "well.test");
	for (int i = 0; i < 4; i++)
		puppet[i] = add_puppet(x);
	want(x, 2, 2, PRIO_DEMAND);
	int at = next_job(puppet, 4, &job, 5000);

	assert_true(at >= 0);
	n.id = job.id;
	began = clock_ms();
	assert_int_equal(keep_sendmsg(puppet[at], &n, sizeof(n), NULL, 0), 0);
	for (int i = 0; i < 1000 && x->sources[0].fails == 0; i++)
		usleep(1000);
	twin_want(x, &other, 3, 3);
	twin_want(x, &elsewhere, 5, 5);
	assert_true(next_job(puppet, 4, &job, 1500) >= 0);
	assert_string_equal(job.source.at.host, "well.test");
	assert_true(next_job(puppet, 4, &job, 20000) >= 0);
	assert_string_equal(job.source.at.host, "busy.test");
	assert_true(clock_ms() - began >= 2000);
	assert_int_equal(denials, 0);
	close_all(puppet, 4);
	twin_end(x, &other);
	twin_end(x, &elsewhere);
}

static void silent_fetchers_make_way(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct twin dead, well;
	int puppet[4], n = 0;

	/* Two hosts fall silent together, and have all fetchers between them. */
	make_remote(&x->sources[0], "dead.test");
	twin_make(x, &dead, "gone.test");
	twin_make(x, &well, "well.test");
	for (int i = 0; i < 4; i++)
		puppet[i] = add_puppet(x);
	for (uint32_t i = 0; i < 12; i += 4)
		want(x, i, i, PRIO_DEMAND);
	for (int i = 0; i < 3; i++)
		assert_true(next_job(puppet, 4, &job, 5000) >= 0);
	twin_want(x, &dead, 0, 0);
	assert_true(next_job(puppet, 4, &job, 5000) >= 0);
	twin_want(x, &well, 3, 3);
	/* One of the first host's three is ended; the keeper would bring another. */
	for (int i = 0; i < 2000 && n == 0; i++) {
		for (int k = 0; k < 4 && n == 0; k++) {
			char c;

			n = recv(puppet[k], &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
		}
		usleep(5000);
	}
	assert_int_equal(n, 1);
	int another = add_puppet(x);

	assert_true(puppet_job(another, &job, 5000));
	assert_string_equal(job.source.at.host, "well.test");
	assert_int_equal(denials, 0);
	close(another);
	close_all(puppet, 4);
	twin_end(x, &dead);
	twin_end(x, &well);
}

static void without_a_deadline_a_blob_that_is_gone_is_waited_for(void **state)
{
	struct fixture *x = *state;

	x->en.slots->settings.deadline_ms = DEADLINE_NEVER;
	open_result = -ENOENT;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&opens, 4);
	assert_int_equal(denials, 0);
	assert_int_equal(x->sources[0].gone, -ENOENT);
	assert_true(x->layer.vanished);
	open_result = 0;
	wait_state(x, 2, 2, SPAN_DIRTY);
	assert_false(x->layer.vanished);
}

static int do_why(void *ctx)
{
	char why[FLIGHT_WHY];
	struct ask *a = ctx;
	uint32_t span;

	flight_why(&a->x->layer, a->first, a->last, &span, why, sizeof(why));
	return strstr(why, "dead.test/image: no answer") && span == 3;
}

static void why_names_the_host_and_what_it_said(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .first = 2, .last = 4};
	static struct fetch_job job;
	int p;

	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
	kill(x->pids[0], SIGKILL);
	usleep(200000);
	make_remote(&x->sources[0], "dead.test");
	want(x, 3, 4, PRIO_DEMAND);
	p = add_puppet(x);
	assert_true(puppet_job(p, &job, 5000));
	assert_int_equal(loop_call(x->en.loop, do_why, &a), 0);
	puppet_say(p, FETCH_FAIL, &job, -ETIMEDOUT, "no answer");
	for (int i = 0; i < 2000 && !loop_call(x->en.loop, do_why, &a); i++)
		usleep(5000);
	assert_int_equal(loop_call(x->en.loop, do_why, &a), 1);
	close(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		gzip_test(a_dead_host_does_not_have_all_fetchers),
		gzip_test(a_host_in_trouble_has_two),
		gzip_test(what_a_host_asked_for_counts_for_all_its_layers),
		gzip_test(silent_fetchers_make_way),
		gzip_test(without_a_deadline_a_blob_that_is_gone_is_waited_for),
		gzip_test(why_names_the_host_and_what_it_said),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
