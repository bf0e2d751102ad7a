/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: plugin/loop.c. */
/* link: -Wl,--wrap=malloc */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "plugin/loop.h"

static struct loop *loop;
static char trail[64]; /* what ran, in order */

static int up(void **state)
{
	trail[0] = '\0';
	return loop_new(&loop);
}

static int down(void **state)
{
	loop = loop_free(loop);
	return 0;
}

static void mark(void *ctx)
{
	size_t n = strlen(trail);

	trail[n] = *(const char *)ctx;
	trail[n + 1] = '\0';
}

static void quit(void *ctx)
{
	loop_quit(loop);
}

static void run(void)
{
	alarm(20);
	assert_int_equal(loop_run(loop), 0);
	alarm(0);
}

/* --- timers --- */

static void timers_run_in_order(void **state)
{
	uint64_t begin = clock_ms();

	loop_after(loop, 60, quit, NULL, NULL);
	loop_after(loop, 40, mark, (void *)"d", NULL);
	loop_after(loop, 0, mark, (void *)"a", NULL);
	loop_after(loop, 20, mark, (void *)"b", NULL);
	loop_after(loop, 20, mark, (void *)"c", NULL); /* of two at one time the first made */
	run();
	assert_string_equal(trail, "abcd");
	assert_true(clock_ms() - begin >= 59);
}

static struct loop_timer *other;

static void cancel_other(void *ctx)
{
	mark(ctx);
	loop_cancel(other);
}

static void cancelled_timers_do_not_run(void **state)
{
	struct loop_timer *t;

	loop_after(loop, 1, mark, (void *)"x", &t);
	loop_cancel(t);
	loop_after(loop, 2, cancel_other, (void *)"a", NULL);
	loop_after(loop, 2, mark, (void *)"y", &other); /* due in the same round */
	loop_after(loop, 5, quit, NULL, NULL);
	run();
	assert_string_equal(trail, "a");
}

static void cancel_self(void *ctx)
{
	mark(ctx);
	loop_cancel(other); /* it is running: nothing is left to stop */
}

static void a_timer_may_name_itself(void **state)
{
	loop_after(loop, 1, cancel_self, (void *)"a", &other);
	loop_after(loop, 3, quit, NULL, NULL);
	run();
	assert_string_equal(trail, "a");
}

static int rounds;

static void again(void *ctx)
{
	if (++rounds < 5)
		loop_after(loop, 1, again, NULL, NULL);
	else
		loop_quit(loop);
}

static void a_timer_may_be_set_again(void **state)
{
	rounds = 0;
	loop_after(loop, 0, again, NULL, NULL);
	run();
	assert_int_equal(rounds, 5);
}

/* Further away than epoll_wait(2) can be told: it is looked at again, and others run in time. */
static void a_timer_far_away(void **state)
{
	struct loop_timer *far;

	loop_after(loop, UINT64_MAX / 2, mark, (void *)"x", &far);
	loop_after(loop, 20, quit, NULL, NULL);
	run();
	assert_string_equal(trail, "");
	loop_cancel(far);
}

/* Alone, as long as one may be: the loop must not take it for one that is due. */
static void *quit_soon(void *ctx)
{
	usleep(50000);
	loop_post(loop, quit, NULL);
	return NULL;
}

static void a_timer_beyond_an_int(void **state)
{
	struct timespec begin, end;
	pthread_t t;

	loop_after(loop, (1ull << 32) + 1, mark, (void *)"x", NULL);
	assert_int_equal(pthread_create(&t, NULL, quit_soon, NULL), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	run();
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	pthread_join(t, NULL);
	assert_string_equal(trail, "");
	/* It slept: a wait of 1 ms at a time would show. */
	assert_true((end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec <
		    20000000);
}

/* --- descriptors --- */

static int ready_fd(void)
{
	return eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
}

struct watched {
	struct loop_io *io;
	int fd;
	const char *name;
	struct watched *removes; /* or NULL */
	uint32_t events;
};

static void on_ready(void *ctx, uint32_t events)
{
	struct watched *w = ctx;

	mark((void *)w->name);
	w->events = events;
	w->io = loop_remove_io(w->io);
	if (w->removes)
		w->removes->io = loop_remove_io(w->removes->io);
}

static void watch(struct watched *w, const char *name, bool urgent)
{
	*w = (struct watched){.fd = ready_fd(), .name = name};
	assert_int_equal(loop_add_io(loop, w->fd, EPOLLIN, urgent, on_ready, w, &w->io), 0);
}

static void urgent_ones_run_first(void **state)
{
	struct watched a, b, c;

	watch(&a, "b", false);
	watch(&b, "a", true);
	watch(&c, "c", false);
	loop_after(loop, 5, quit, NULL, NULL);
	run();
	assert_string_equal(trail, "abc");
	assert_int_equal(a.events, EPOLLIN);
	close(a.fd);
	close(b.fd);
	close(c.fd);
}

/* Each would remove the other: whoever comes first does, and the other's event is dropped. */
static void removal_in_a_callback(void **state)
{
	struct watched a, b;

	watch(&a, "a", false);
	watch(&b, "b", false);
	a.removes = &b;
	b.removes = &a;
	loop_after(loop, 5, quit, NULL, NULL);
	run();
	assert_int_equal(strlen(trail), 1);
	assert_null(a.io);
	assert_null(b.io);
	assert_null(loop_remove_io(NULL));
	close(a.fd);
	close(b.fd);
}

static void level_triggered_until_told_otherwise(void **state)
{
	struct watched a;

	watch(&a, "a", false);
	assert_int_equal(loop_set_events(a.io, 0), 0);
	loop_after(loop, 20, quit, NULL, NULL);
	run();
	assert_string_equal(trail, "");
	assert_int_equal(loop_set_events(a.io, EPOLLIN), 0);
	loop_remove_io(a.io);
	close(a.fd);
}

static void a_descriptor_that_is_none(void **state)
{
	struct loop_io *io = (void *)0x1;

	assert_int_equal(loop_add_io(loop, -1, EPOLLIN, false, on_ready, NULL, &io), -EBADF);
	assert_ptr_equal(io, (void *)0x1);
}

/* --- other threads --- */

#define POSTS   2000
#define THREADS 4

static int counted; /* the loop's */

static void count(void *ctx)
{
	counted++;
}

static int count_call(void *ctx)
{
	counted++;
	return *(int *)ctx;
}

static void *post_many(void *ctx)
{
	for (int i = 0; i < POSTS; i++) {
		if (i % 2) {
			if (loop_post(loop, count, NULL) < 0)
				return NULL;
		} else if (loop_call(loop, count_call, &i) != i) {
			return NULL;
		}
	}
	return ctx;
}

static void *run_thread(void *ctx)
{
	return loop_run(loop) == 0 ? ctx : NULL;
}

static int nothing(void *ctx)
{
	return -EXDEV;
}

static void posts_and_calls(void **state)
{
	pthread_t runner, t[THREADS];
	void *ret;

	counted = 0;
	alarm(60);
	assert_int_equal(pthread_create(&runner, NULL, run_thread, trail), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, post_many, trail), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &ret);
		assert_ptr_equal(ret, trail);
	}
	/* What was posted before has run. */
	assert_int_equal(loop_call(loop, nothing, NULL), -EXDEV);
	assert_int_equal(loop_post(loop, quit, NULL), 0);
	pthread_join(runner, &ret);
	assert_ptr_equal(ret, trail);
	assert_int_equal(counted, POSTS * THREADS);
	alarm(0);
}

static void post_more(void *ctx)
{
	mark((void *)"a");
	loop_post(loop, mark, (void *)"b");
	loop_post(loop, quit, NULL);
}

static void posts_from_a_post(void **state)
{
	loop_post(loop, post_more, NULL);
	run();
	assert_string_equal(trail, "ab");
	/* What nobody runs any more is freed with the loop. */
	loop_post(loop, mark, (void *)"x");
	loop_after(loop, 1000, mark, (void *)"x", NULL);
}

static void the_clock_goes_on(void **state)
{
	uint64_t a = clock_ns();

	usleep(2000);
	assert_true(clock_ns() - a >= 1900000);
}

/* --- where memory is short --- */

static _Atomic int shortage; /* so many allocations get none */

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

void *__wrap_malloc(size_t n)
{
	if (atomic_load(&shortage) > 0 && atomic_fetch_sub(&shortage, 1) > 0)
		return NULL;
	return __real_malloc(n);
}

static void *call_and_quit(void *arg)
{
	atomic_store(&shortage, 2);
	assert_int_equal(loop_call(loop, *(int (**)(void *))arg, NULL), 7);
	/* A call needs none. */
	assert_int_equal(atomic_exchange(&shortage, 0), 2);
	return arg;
}

static int quit_with_7(void *ctx)
{
	loop_quit(loop);
	return 7;
}

static void nothing_is_lost_for_lack_of_memory(void **state)
{
	static char names[] = "ab";
	int (*fn)(void *) = quit_with_7;
	pthread_t thread;
	void *ret;

	atomic_store(&shortage, 3);
	assert_int_equal(loop_after(loop, 1, mark, names, NULL), 0);
	atomic_store(&shortage, 3);
	assert_int_equal(loop_post(loop, mark, names + 1), 0);
	assert_int_equal(atomic_load(&shortage), 0);
	assert_int_equal(loop_after(loop, 20, quit, NULL, NULL), 0);
	run();
	assert_string_equal(trail, "ba");
	loop_free(loop);
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(pthread_create(&thread, NULL, call_and_quit, (void *)&fn), 0);
	run();
	assert_int_equal(pthread_join(thread, &ret), 0);
}

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(timers_run_in_order),
		RIGGED(cancelled_timers_do_not_run),
		RIGGED(a_timer_may_name_itself),
		RIGGED(a_timer_may_be_set_again),
		RIGGED(a_timer_far_away),
		RIGGED(a_timer_beyond_an_int),
		RIGGED(urgent_ones_run_first),
		RIGGED(removal_in_a_callback),
		RIGGED(level_triggered_until_told_otherwise),
		RIGGED(a_descriptor_that_is_none),
		RIGGED(posts_and_calls),
		RIGGED(posts_from_a_post),
		RIGGED(the_clock_goes_on),
		RIGGED(nothing_is_lost_for_lack_of_memory),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
