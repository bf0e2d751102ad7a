/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/coldest.h"
#include "plugin/store/kept.h"
#include "plugin/store/load.h"
#include "plugin/store/space.h"

#define MIB (1u << 20)

/* The real space on a real loop; what is in the store, and what can go, is as the test says. */
struct fixture {
	struct engine en;
	pthread_t loop_thread;
};

/* --- the fakes --- */

static atomic_uint lists, evictions, rooms;
static atomic_int list_result, room_err;
static _Atomic uint64_t resident, asked, freed;
static atomic_bool disturbed, held;

int file_list_found(struct engine *en, enum keep_kind kind, struct keep_found **ret, size_t *ret_n,
		    struct err *e)
{
	lists++;
	if (list_result < 0)
		return err_errno(e, list_result, "the test says");
	*ret = calloc(1, sizeof(**ret));
	assert_non_null(*ret);
	*ret_n = 1;
	return 0;
}

uint64_t layer_resident(struct engine *en, const struct digest *diff_id, const struct digest *scope)
{
	return resident;
}

struct coldest coldest_evict(struct engine *en, uint64_t bytes, bool (*cancelled)(void *ctx),
			     void *ctx)
{
	asked = bytes;
	evictions++;
	while (held && !cancelled(ctx))
		usleep(1000);
	return (struct coldest){.freed = freed, .disturbed = disturbed};
}

void flight_room(struct flight *f, int err)
{
	room_err = err;
	rooms++;
}

static void *run_task(void *arg)
{
	void **call = arg;

	((void (*)(void *))call[0])(call[1]);
	free(call);
	return NULL;
}

int engine_task(void (*fn)(void *ctx), void *ctx)
{
	void **call = calloc(2, sizeof(*call));
	pthread_t t;

	assert_non_null(call);
	call[0] = (void *)fn;
	call[1] = ctx;
	assert_int_equal(pthread_create(&t, NULL, run_task, call), 0);
	return pthread_detach(t);
}

/* --- asking the loop --- */

struct ask {
	struct fixture *x;
	uint64_t bytes, counts;
	int err;
	bool waited, disk;
};

static int do_take(void *ctx)
{
	struct ask *a = ctx;

	return space_take(a->x->en.space, a->bytes, a->waited);
}

static int take(struct fixture *x, uint64_t bytes, bool waited)
{
	struct ask a = {.x = x, .bytes = bytes, .waited = waited};

	return loop_call(x->en.loop, do_take, &a);
}

static int do_closed(void *ctx)
{
	struct ask *a = ctx;

	return space_closed(a->x->en.space, a->bytes);
}

static int do_want(void *ctx)
{
	struct ask *a = ctx;

	return space_want(a->x->en.space, a->bytes, a->err, a->disk);
}

static bool want(struct fixture *x, uint64_t bytes, int err, bool disk)
{
	struct ask a = {.x = x, .bytes = bytes, .err = err, .disk = disk};

	return loop_call(x->en.loop, do_want, &a);
}

static int do_used(void *ctx)
{
	struct ask *a = ctx;

	a->bytes = space_state(a->x->en.space).used;
	return 0;
}

static uint64_t used(struct fixture *x)
{
	struct ask a = {.x = x};

	loop_call(x->en.loop, do_used, &a);
	return a.bytes;
}

static int do_counts(void *ctx)
{
	struct ask *a = ctx;

	a->counts = space_counts(a->x->en.space);
	return 0;
}

static int do_freed(void *ctx)
{
	struct ask *a = ctx;

	space_freed(a->x->en.space, a->bytes, a->counts);
	return 0;
}

static int do_stop(void *ctx)
{
	((struct fixture *)ctx)->en.stopping = true;
	return 0;
}

static void wait_for(atomic_uint *counter, unsigned n)
{
	for (int i = 0; i < 10000 && *counter < n; i++)
		usleep(1000);
	assert_true(*counter >= n);
}

static int do_busy(void *ctx)
{
	return space_busy(((struct fixture *)ctx)->en.space);
}

static void wait_idle(struct fixture *x)
{
	for (int i = 0; i < 10000 && loop_call(x->en.loop, do_busy, x); i++)
		usleep(1000);
	assert_false(loop_call(x->en.loop, do_busy, x));
}

/* A limit, and a store that was counted. */
static void limit(struct fixture *x, uint64_t max, uint64_t low, uint64_t there)
{
	resident = there;
	x->en.slots->settings.cache_low = low;
	x->en.slots->settings.cache_max = max;
	(void)take(x, 0, false);
	wait_for(&lists, 1);
	wait_idle(x);
	assert_int_equal(used(x), there);
}

/* --- the tests --- */

static void a_limit_is_not_reached_by_what_nobody_has_counted(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .bytes = MIB};

	resident = 10 * MIB;
	x->en.slots->settings.cache_max = 100 * MIB;
	/* Who only asks does not have to wait for the next look at the settings. */
	assert_int_equal(loop_call(x->en.loop, do_closed, &a), -EDQUOT);
	for (int i = 0; i < 2000 && loop_call(x->en.loop, do_closed, &a) < 0; i++)
		usleep(1000);
	assert_int_equal(loop_call(x->en.loop, do_closed, &a), 0);
	assert_int_equal(used(x), 10 * MIB);
	assert_int_equal(evictions, 0);
}

static void a_store_that_cannot_be_counted_has_no_room(void **state)
{
	struct fixture *x = *state;

	list_result = -EPIPE;
	x->en.slots->settings.cache_max = 100 * MIB;
	/* True would be tried again, for ever. */
	assert_false(space_make(&x->en, MIB, false));
	list_result = 0;
	assert_true(space_make(&x->en, MIB, false));
	assert_int_equal(take(x, MIB, true), 0);
}

static void a_stop_is_no_reason_to_deny_anybody(void **state)
{
	struct fixture *x = *state;

	held = true;
	assert_true(want(x, MIB, -ENOSPC, true));
	wait_for(&evictions, 1);
	loop_call(x->en.loop, do_stop, x);
	wait_for(&rooms, 1);
	assert_int_equal(room_err, 0);
}

static void an_eviction_by_somebody_else_is_no_reason_either(void **state)
{
	struct fixture *x = *state;

	disturbed = true;
	assert_true(want(x, MIB, -ENOSPC, true));
	wait_for(&rooms, 1);
	assert_int_equal(room_err, 0);
	disturbed = false;
	assert_true(want(x, MIB, -ENOSPC, true));
	wait_for(&rooms, 2);
	assert_int_equal(room_err, -ENOSPC);
	assert_false(want(x, MIB, -ENOSPC, true));
}

static void readers_wait_for_what_they_need_only(void **state)
{
	struct fixture *x = *state;

	limit(x, 10000ull * MIB, 5000ull * MIB, 5000ull * MIB);
	assert_int_equal(evictions, 0);
	/* The settings' own eviction is under way, and is long. */
	resident = 10000ull * MIB;
	held = true;
	assert_int_equal(take(x, 4999ull * MIB, true), 0);
	wait_for(&evictions, 1);
	assert_true(asked > 4000ull * MIB);
	assert_int_equal(rooms, 0);
	assert_true(want(x, 2 * MIB, -EDQUOT, false));
	wait_for(&rooms, 1);
	assert_int_equal(room_err, 0);
	/* Their own. */
	held = false;
	freed = MIB;
	assert_true(want(x, 2 * MIB, -EDQUOT, false));
	wait_for(&rooms, 2);
	assert_int_equal(evictions, 2);
	assert_true(asked < 6000ull * MIB);
	assert_int_equal(room_err, 0);
}

static void what_a_count_has_missed_is_not_taken_off_twice(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .bytes = 30 * MIB};

	limit(x, 100 * MIB, 0, 50 * MIB);
	loop_call(x->en.loop, do_counts, &a);
	/* It has gone, and is counted before its eviction tells. */
	resident = 20 * MIB;
	assert_true(space_make(&x->en, MIB, false));
	assert_int_equal(used(x), 20 * MIB);
	loop_call(x->en.loop, do_freed, &a);
	assert_int_equal(used(x), 20 * MIB);
	loop_call(x->en.loop, do_counts, &a);
	a.bytes = 5 * MIB;
	loop_call(x->en.loop, do_freed, &a);
	assert_int_equal(used(x), 15 * MIB);
}

/* --- the fixture --- */

static void *run_loop(void *ctx)
{
	loop_run(((struct engine *)ctx)->loop);
	return NULL;
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	lists = evictions = rooms = 0;
	list_result = room_err = 0;
	resident = asked = freed = 0;
	disturbed = held = false;
	log_init("test", LOG_ERROR);
	x->en.slots = calloc(1, sizeof(*x->en.slots));
	assert_non_null(x->en.slots);
	settings_default(&x->en.slots->settings);
	assert_int_equal(loop_new(&x->en.loop), 0);
	assert_int_equal(space_new(&x->en, &x->en.space), 0);
	assert_int_equal(pthread_create(&x->loop_thread, NULL, run_loop, &x->en), 0);
	*state = x;
	return 0;
}

static void end_loop(void *ctx)
{
	loop_quit(ctx);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	held = false;
	wait_idle(x);
	loop_post(x->en.loop, end_loop, x->en.loop);
	pthread_join(x->loop_thread, NULL);
	space_free(x->en.space);
	loop_free(x->en.loop);
	free(x->en.slots);
	free(x);
	return 0;
}

#define space_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		space_test(a_limit_is_not_reached_by_what_nobody_has_counted),
		space_test(a_store_that_cannot_be_counted_has_no_room),
		space_test(a_stop_is_no_reason_to_deny_anybody),
		space_test(an_eviction_by_somebody_else_is_no_reason_either),
		space_test(readers_wait_for_what_they_need_only),
		space_test(what_a_count_has_missed_is_not_taken_off_twice),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
