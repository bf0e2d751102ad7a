/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of events: what an engine finds in it that another one left. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "tests/unit/slots_rig.h"

static void settle_nothing_was_read(void **state)
{
	struct slot *s = slots_take(t);

	atomic_store(&t->in_hand[1], 2);
	slots_settle(t, group);
	assert_int_equal(state_of(s), SLOT_FREE);
	assert_int_equal(t->in_hand[1], 0);
	expect_silence();
}

static void settle_read_and_not_said(void **state)
{
	struct slot *s = slots_take(t);
	int fd = open_file(-1);

	s->group = SLOT_CONTENT;
	fill_raw(s, fd, FAN_PRE_ACCESS, true);
	slots_settle(t, group);
	assert_int_equal(state_of(s), SLOT_WAITING);
	assert_true(s->fd == fd && s->off == 8192 && is_open(fd));
	expect_silence();
}

static void settle_waiting(void **state)
{
	struct slot *s = waiting(SLOT_EXEC);
	uint64_t since = s->since_ns;

	atomic_store(&s->waited_ms, 500);
	atomic_store(&s->frozen, 1);
	slots_settle(t, group);
	assert_int_equal(state_of(s), SLOT_WAITING);
	assert_true(s->waited_ms == 500 && s->since_ns == since && is_open(s->fd));
	/* Its deadline counts on, whatever the engine that is gone held it back for. */
	assert_int_equal(s->frozen, 0);
}

static void settle_answering(void **state)
{
	struct slot *s = waiting(SLOT_EXEC);
	int fd = s->fd;

	s->response = FAN_DENY_WITH(EBUSY);
	atomic_store(&s->state, SLOT_ANSWERING);
	slots_settle(t, group);
	expect_answer(SLOT_EXEC, fd, FAN_DENY_WITH(EBUSY));
	assert_int_equal(state_of(s), SLOT_FREE);
	assert_false(is_open(fd));
}

static void settle_denied(void **state)
{
	struct slot *a = waiting(SLOT_CONTENT), *b = waiting(SLOT_CONTENT),
		    *c = waiting(SLOT_CONTENT);
	int fd = a->fd;

	atomic_store(&a->state, SLOT_DENIED);
	atomic_store(&b->state, SLOT_DENYING);
	atomic_store(&c->state, SLOT_BURYING);
	slots_settle(t, group);
	assert_int_equal(state_of(a), SLOT_FREE);
	assert_false(is_open(fd));
	assert_true(state_of(b) == SLOT_DENYING && is_open(b->fd));
	assert_true(state_of(c) == SLOT_BURYING && is_open(c->fd));
	expect_silence();
}

/* The anchor died, and the table with it: @s knows a number, and no descriptor has it. */
static struct slot *lost(int number, enum slot_state in)
{
	struct slot *s = waiting(SLOT_CONTENT);
	int fd = s->fd;

	close(fd);
	((struct fanotify_event_metadata *)s->raw)->fd = number;
	s->fd = number;
	s->response = FAN_ALLOW;
	atomic_store(&s->state, in);
	return s;
}

static void settle_lost_table(void **state)
{
	struct slot *w = lost(FAR, SLOT_WAITING), *d = lost(FAR + 1, SLOT_DENYING),
		    *b = lost(FAR + 2, SLOT_BURYING), *a = lost(FAR + 3, SLOT_ANSWERING),
		    *n = lost(FAR + 4, SLOT_DENIED), *r = lost(FAR + 5, SLOT_READING);

	open_file(FAR + 4); /* somebody else's by now */
	t->table = 2;
	slots_settle(t, group);
	assert_true(state_of(w) == SLOT_WAITING && is_open(FAR));
	assert_true(state_of(d) == SLOT_DENYING && is_open(FAR + 1));
	assert_true(state_of(b) == SLOT_BURYING && is_open(FAR + 2));
	assert_true(w->table == 2 && d->table == 2 && b->table == 2);
	assert_true(state_of(a) == SLOT_FREE && !is_open(FAR + 3));
	expect_answer(SLOT_CONTENT, FAR + 3, FAN_ALLOW);
	assert_true(state_of(n) == SLOT_FREE && is_open(FAR + 4));
	/* Nobody can tell what it is about: zeros are not risked. */
	assert_true(state_of(r) == SLOT_FREE && !is_open(FAR + 5));
	expect_answer(SLOT_CONTENT, FAR + 5, DENIED_EIO);
	expect_silence();
	/* The placeholder goes with the answer. */
	assert_int_equal(slot_answer(w, group[0], FAN_ALLOW), 0);
	expect_answer(SLOT_CONTENT, FAR, FAN_ALLOW);
	assert_false(is_open(FAR));
}

/* Nor can anybody tell what this is about; but whoever only opens something reads nothing yet. */
static void settle_lost_open(void **state)
{
	struct slot *s = lost(FAR, SLOT_READING);

	s->group = SLOT_EXEC;
	fill_raw(s, FAR, FAN_OPEN_PERM, false);
	t->table = 2;
	slots_settle(t, group);
	expect_answer(SLOT_EXEC, FAR, FAN_ALLOW);
	assert_true(state_of(s) == SLOT_FREE && !is_open(FAR));
	expect_silence();
}

/* A second table is lost, too, and no number is in two hands. */
static void settle_lost_twice(void **state)
{
	struct slot *first = lost(FAR, SLOT_WAITING), *second;

	t->table = 2;
	slots_settle(t, group);
	close(FAR);
	second = lost(FAR + 1, SLOT_WAITING);
	assert_int_equal(second->table, 2);
	t->table = 3;
	slots_settle(t, group);
	assert_true(is_open(FAR) && is_open(FAR + 1));
	assert_true(first->table == 3 && second->table == 3);
}

/* In a child: it closes everything but what it is told to keep. */
static int close_others(int keep_a, int keep_b)
{
	const int keep[] = {keep_b, keep_a};
	struct slot *w = waiting(SLOT_CONTENT), *d = waiting(SLOT_CONTENT),
		    *f = waiting(SLOT_CONTENT);
	int odd = open_file(-1);

	atomic_store(&d->state, SLOT_DENYING);
	atomic_store(&f->state, SLOT_FREE);
	slots_close_others(t, keep, 2);
	return is_open(0) && is_open(keep_a) && is_open(keep_b) && is_open(w->fd) &&
	       is_open(d->fd) && !is_open(f->fd) && !is_open(odd) && !is_open(heard[0]);
}

static void close_what_nobody_waits_for(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(close_others(group[0], group[1]) ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void what_is_mounted_is_listed(void **state)
{
	slots_mounted(t, 7, 5);
	slots_mounted(t, 8, 5);
	slots_mounted(t, 7, 5);
	slots_mounted(t, 9, 5);
	assert_int_equal(t->nmounted, 3);
	slots_unmounted(t, 7);
	slots_unmounted(t, 7);
	assert_int_equal(t->nmounted, 2);
	assert_int_equal(t->mounted[0].dev + t->mounted[1].dev, 17);
	/* The number is another's now. */
	slots_mounted(t, 8, 6);
	assert_int_equal(t->nmounted, 2);
	assert_int_equal(t->mounted[0].sign + t->mounted[1].sign, 11);
	for (uint64_t dev = 100; dev < 100 + LIMIT_MOUNTED; dev++)
		slots_mounted(t, dev, 5);
	assert_int_equal(t->nmounted, LIMIT_MOUNTED);
	slots_unmounted(t, 8);
	assert_int_equal(t->nmounted, LIMIT_MOUNTED - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(settle_nothing_was_read),
		RIGGED(settle_read_and_not_said),
		RIGGED(settle_waiting),
		RIGGED(settle_answering),
		RIGGED(settle_denied),
		RIGGED(settle_lost_table),
		RIGGED(settle_lost_open),
		RIGGED(settle_lost_twice),
		RIGGED(close_what_nobody_waits_for),
		RIGGED(what_is_mounted_is_listed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("slots_settle", tests, NULL, NULL);
}
