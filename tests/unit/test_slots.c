/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of events: what engine, keeper and anchor do to a slot while all of them live. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "plugin/loop.h"
#include "tests/unit/slots_rig.h"

/* --- the engine's transitions --- */

static void take_until_full(void **state)
{
	struct slot *s[8];

	for (int i = 0; i < 8; i++) {
		s[i] = slots_take(t);
		assert_non_null(s[i]);
		assert_int_equal(state_of(s[i]), SLOT_READING);
		assert_int_equal(s[i]->table, 1);
		for (int k = 0; k < i; k++)
			assert_ptr_not_equal(s[i], s[k]);
	}
	assert_null(slots_take(t));
	assert_int_equal(slots_waiting(t), 8);
	slot_put_back(s[3]);
	s[3]->raw[5] = 1;
	assert_ptr_equal(slots_take(t), s[3]);
	assert_int_equal(s[3]->raw[5], 0);
}

static void parse_fills_the_fields(void **state)
{
	uint64_t before = clock_ns();
	struct slot *s = slots_take(t);
	struct stat st;
	int fd = open_file(-1);

	atomic_store(&s->deaths, 2);
	atomic_store(&s->waited_ms, 9);
	atomic_store(&s->frozen, 1);
	s->group = SLOT_CONTENT;
	fill_raw(s, fd, FAN_PRE_ACCESS, true);
	assert_int_equal(slot_parse(s), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(state_of(s), SLOT_WAITING);
	assert_int_equal(s->fd, fd);
	assert_int_equal(s->pid, 4711);
	assert_true(s->mask == FAN_PRE_ACCESS && s->dev == st.st_dev && s->ino == st.st_ino);
	assert_true(s->off == 8192 && s->count == 4096);
	assert_true(s->since_ns >= before && s->since_ns <= clock_ns());
	assert_true(s->deaths == 0 && s->waited_ms == 0 && s->frozen == 0);
	assert_int_equal(slot_answer(s, group[0], FAN_ALLOW), 0);
	expect_answer(SLOT_CONTENT, fd, FAN_ALLOW);
	assert_int_equal(state_of(s), SLOT_FREE);
	assert_false(is_open(fd));
	assert_int_equal(s->raw[0], 0);
}

static void parse_without_a_range(void **state)
{
	struct slot *s = slots_take(t);

	fill_raw(s, open_file(-1), FAN_OPEN_EXEC_PERM, false);
	s->off = s->count = 77;
	assert_int_equal(slot_parse(s), 0);
	assert_true(s->off == 0 && s->count == 0);
}

/* Records of other kinds before the range; records that lie about their length. */
static void parse_walks_records(void **state)
{
	struct slot *s = slots_take(t);
	struct fanotify_event_metadata *m = (void *)s->raw;
	struct fanotify_event_info_header *other = (void *)(s->raw + sizeof(*m));

	fill_raw(s, open_file(-1), FAN_PRE_ACCESS, true);
	memmove(s->raw + sizeof(*m) + 8, s->raw + sizeof(*m), sizeof(struct fan_range_record));
	*other = (struct fanotify_event_info_header){.info_type = 4, .len = 8};
	m->event_len += 8;
	assert_int_equal(slot_parse(s), 0);
	assert_true(s->off == 8192 && s->count == 4096);
	other->len = 0;
	assert_int_equal(slot_parse(s), 0);
	assert_int_equal(s->count, 0);
	other->len = 60000;
	assert_int_equal(slot_parse(s), 0);
	assert_int_equal(s->count, 0);
}

static void parse_refuses_what_is_no_event(void **state)
{
	struct slot *s = slots_take(t);
	struct fanotify_event_metadata *m = (void *)s->raw;
	int fd = open_file(FAR);

	fill_raw(s, fd, FAN_PRE_ACCESS, true);
	m->vers = 99;
	assert_int_equal(slot_parse(s), -EBADMSG);
	fill_raw(s, fd, FAN_PRE_ACCESS, true);
	m->event_len = SLOT_RAW + 1;
	assert_int_equal(slot_parse(s), -EBADMSG);
	m->event_len = 3;
	assert_int_equal(slot_parse(s), -EBADMSG);
	close(fd);
	fill_raw(s, fd, FAN_PRE_ACCESS, true);
	assert_int_equal(slot_parse(s), -EBADMSG);
	/* It can be answered all the same. */
	assert_int_equal(state_of(s), SLOT_WAITING);
	assert_int_equal(slot_answer(s, group[0], DENIED_EIO), 0);
	expect_answer(SLOT_CONTENT, fd, DENIED_EIO);
}

static void answer_is_eight_bytes(void **state)
{
	char bytes[16];

	assert_int_equal(fan_answer(group[0], 5, FAN_DENY_WITH(ENOSPC)), 0);
	assert_int_equal(read(heard[0], bytes, sizeof(bytes)), 8);
	assert_int_equal(bytes[0], 5);
	assert_int_equal(bytes[7], ENOSPC);
	assert_int_equal(fan_answer(-1, 5, FAN_ALLOW), -EBADF);
}

/* --- the keeper's and the anchor's --- */

static void deadline(void **state)
{
	struct slot *a = waiting(SLOT_CONTENT), *b = waiting(SLOT_EXEC), *c = waiting(SLOT_CONTENT);
	struct slot *reading = slots_take(t);
	int fa = a->fd, fb = b->fd;

	assert_non_null(reading);
	atomic_store(&c->frozen, 1);
	for (int i = 0; i < 4; i++)
		assert_int_equal(slots_enforce(t, group, 250, 1000), 0);
	expect_silence();
	assert_int_equal(a->waited_ms, 1000);
	assert_int_equal(c->waited_ms, 0);
	assert_int_equal(slots_enforce(t, group, 250, 1000), 2);
	expect_answer(SLOT_CONTENT, fa, DENIED_EIO);
	expect_answer(SLOT_EXEC, fb, DENIED_EIO);
	assert_true(state_of(a) == SLOT_DENIED && state_of(b) == SLOT_DENIED);
	assert_int_equal(state_of(c), SLOT_WAITING);
	/* Not by the keeper, but by the engine alone are they closed; and nothing is said twice. */
	assert_true(is_open(fa) && is_open(fb));
	assert_int_equal(slots_enforce(t, group, 250, 1000), 0);
	assert_int_equal(slot_answer(a, group[0], FAN_ALLOW), 0);
	expect_silence();
	assert_int_equal(state_of(a), SLOT_FREE);
	assert_false(is_open(fa));
}

static void no_deadline_at_all(void **state)
{
	struct slot *s[4];

	for (int i = 0; i < 4; i++) {
		s[i] = waiting(SLOT_CONTENT);
		s[i]->waited_ms = i % 2 ? UINT32_MAX - 600 : UINT32_MAX / 2;
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(slots_enforce(t, group, 250, DEADLINE_NEVER), 0);
	expect_silence();
	for (int i = 0; i < 4; i++) {
		assert_int_equal(state_of(s[i]), SLOT_WAITING);
		slot_answer(s[i], group[0], FAN_ALLOW);
	}
}

static void who_is_gone_is_denied(void **state)
{
	struct slot *s[4]; /* gone, not for long; here; of another pid namespace; gone */
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 4; i++) {
		s[i] = waiting(SLOT_CONTENT);
		s[i]->pid = i == 1 ? getpid() : i == 2 ? 0 : pid;
		s[i]->waited_ms = i ? 10000 : 9999;
	}
	slots_deny_gone(t, group, 10000);
	expect_answer(SLOT_CONTENT, s[3]->fd, DENIED_EIO);
	expect_silence();
	for (int i = 0; i < 4; i++) {
		assert_int_equal(state_of(s[i]), i == 3 ? SLOT_DENIED : SLOT_WAITING);
		slot_answer(s[i], group[0], FAN_ALLOW);
	}
}

static void denying_is_left_alone(void **state)
{
	static const enum slot_state denied_by[] = {SLOT_DENYING, SLOT_BURYING};

	for (int i = 0; i < 2; i++) {
		struct slot *s = waiting(SLOT_CONTENT);

		atomic_store(&s->state, denied_by[i]);
		assert_int_equal(slot_answer(s, group[0], FAN_ALLOW), -EAGAIN);
		assert_int_equal(state_of(s), denied_by[i]);
		assert_true(is_open(s->fd));
		expect_silence();
		/* Each finishes what its own kind began. */
		slots_deny_again(t, group, denied_by[1 - i]);
		expect_silence();
		slots_deny_again(t, group, denied_by[i]);
		expect_answer(SLOT_CONTENT, s->fd, DENIED_EIO);
		assert_int_equal(state_of(s), SLOT_DENIED);
		assert_int_equal(slot_answer(s, group[0], FAN_ALLOW), 0);
		assert_int_equal(state_of(s), SLOT_FREE);
	}
}

static void third_death(void **state)
{
	struct slot *a = waiting(SLOT_CONTENT), *b = waiting(SLOT_CONTENT);
	uint32_t n = (uint32_t)(a - t->s) + 1;

	for (int i = 0; i < 2; i++) {
		atomic_store(&t->in_hand[i * 5], n);
		atomic_store(&t->in_hand[9], LIMIT_SLOTS + 9); /* damaged */
		assert_int_equal(slots_engine_died(t, group), 0);
		assert_true(t->in_hand[i * 5] == 0 && t->in_hand[9] == 0);
		slots_settle(t, group);
	}
	assert_int_equal(slots_engine_died(t, group), 0); /* in nobody's hand */
	assert_int_equal(a->deaths, 2 * SLOT_DEATH_CRASHED);
	expect_silence();
	atomic_store(&t->in_hand[0], n);
	assert_int_equal(slots_engine_died(t, group), 1);
	expect_answer(SLOT_CONTENT, a->fd, DENIED_EIO);
	assert_int_equal(state_of(a), SLOT_DENIED);
	assert_true(state_of(b) == SLOT_WAITING && b->deaths == 0);
}

/* Whoever kills engines at random is not the event they had in hand; but there is an end to it. */
static void killed_with_it_in_hand(void **state)
{
	struct slot *a = waiting(SLOT_CONTENT);
	uint32_t n = (uint32_t)(a - t->s) + 1;

	for (int i = 1; i < 3 * SLOT_DEATH_CRASHED; i++) {
		atomic_store(&t->in_hand[0], n);
		assert_int_equal(slots_engine_killed(t, group), 0);
		slots_settle(t, group);
	}
	expect_silence();
	atomic_store(&t->in_hand[0], n);
	assert_int_equal(slots_engine_killed(t, group), 1);
	expect_answer(SLOT_CONTENT, a->fd, DENIED_EIO);
	assert_int_equal(state_of(a), SLOT_DENIED);
}

/* Engine and keeper come to the same slot: the kernel hears one answer, and nothing is left. */
static void *enforcing(void *stop)
{
	while (!atomic_load((_Atomic bool *)stop))
		slots_enforce(t, group, 1, 0);
	return NULL;
}

static void race_for_the_answer(void **state)
{
	_Atomic bool stop = false;
	pthread_t keeper;
	unsigned allowed = 0;

	assert_int_equal(pthread_create(&keeper, NULL, enforcing, &stop), 0);
	for (int i = 0; i < 5000; i++) {
		struct slot *s = waiting(SLOT_CONTENT);
		struct fanotify_response r;
		int fd = s->fd;

		if (i % 3 == 0)
			sched_yield();
		while (slot_answer(s, group[0], FAN_ALLOW) == -EAGAIN)
			sched_yield();
		assert_int_equal(read(heard[0], &r, sizeof(r)), sizeof(r));
		assert_int_equal(r.fd, fd);
		allowed += r.response == FAN_ALLOW;
		expect_silence();
	}
	atomic_store(&stop, true);
	pthread_join(keeper, NULL);
	assert_int_equal(slots_waiting(t), 0);
	assert_true(allowed > 0);
}

/* Memory as an engine that was taken over may leave it, with nothing mapped behind it. */
static struct slots *make_wild(void)
{
	const size_t page = 4096, size = (sizeof(struct slots) + page - 1) / page * page;
	char *p =
		mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct slots *wild = (struct slots *)p;

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + size, page, PROT_NONE), 0);
	wild->count = UINT32_MAX;
	atomic_store(&wild->nmounted, UINT32_MAX);
	for (uint32_t i = 0; i < SLOTS_HANDLERS; i++)
		atomic_store(&wild->in_hand[i], i % 2 ? UINT32_MAX : LIMIT_SLOTS + 1 + i);
	return wild;
}

static void the_keeper_survives_wild_memory(void **state)
{
	struct slots *wild = make_wild();

	assert_int_equal(slots_count(wild), LIMIT_SLOTS);
	wild->s[LIMIT_SLOTS - 1] =
		(struct slot){.group = 0x7fffffff, .fd = FAR, .state = SLOT_WAITING};
	assert_int_equal(slots_enforce(wild, group, 1000, 500), 1);
	/* To one of the two groups, and nowhere else. */
	expect_answer(SLOT_CONTENT, FAR, DENIED_EIO);
	wild->s[7] = (struct slot){.group = 0x7fffffff, .fd = FAR, .state = SLOT_DENYING};
	slots_deny_again(wild, group, SLOT_DENYING);
	expect_answer(SLOT_CONTENT, FAR, DENIED_EIO);
	slots_allow_exec(wild, group);
	assert_int_equal(slots_engine_died(wild, group) | (slots_waiting(wild) ^ 2), 0);
	expect_silence();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(take_until_full),
		RIGGED(parse_fills_the_fields),
		RIGGED(parse_without_a_range),
		RIGGED(parse_walks_records),
		RIGGED(parse_refuses_what_is_no_event),
		RIGGED(answer_is_eight_bytes),
		RIGGED(deadline),
		RIGGED(no_deadline_at_all),
		RIGGED(who_is_gone_is_denied),
		RIGGED(denying_is_left_alone),
		RIGGED(third_death),
		RIGGED(killed_with_it_in_hand),
		RIGGED(race_for_the_answer),
		RIGGED(the_keeper_survives_wild_memory),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
