/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal of events (plugin/fault/slots.c, fan.c). A pipe stands for each fanotify group: what
 * is answered can be read from its other end. Event descriptors are files of the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "plugin/fault/fan.h"
#include "plugin/fault/slots.h"
#include "plugin/loop.h"
#include "plugin/uapi.h"

#define DENIED_EIO FAN_DENY_WITH(EIO)
#define FAR        300 /* a number no descriptor of the test has by itself */

static struct slots *t;
static int group[2], heard[2]; /* what answers are written to; where they are read */

static int up(void **state)
{
	t = calloc(1, sizeof(*t));
	if (!t)
		return -1;
	t->count = 8;
	t->table = 1;
	for (int i = 0; i < 2; i++) {
		int p[2];

		if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
			return -1;
		heard[i] = p[0];
		group[i] = p[1];
	}
	return 0;
}

static int down(void **state)
{
	for (int i = 0; i < 2; i++) {
		close(heard[i]);
		close(group[i]);
	}
	close_range(FAR, FAR + 8, 0);
	free(t);
	return 0;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void expect_answer(enum slot_group g, int fd, uint32_t response)
{
	struct fanotify_response r;

	assert_int_equal(read(heard[g], &r, sizeof(r)), sizeof(r));
	assert_int_equal(r.fd, fd);
	assert_int_equal(r.response, response);
}

static void expect_silence(void)
{
	for (int i = 0; i < 2; i++) {
		struct pollfd p = {.fd = heard[i], .events = POLLIN};

		assert_int_equal(poll(&p, 1, 0), 0);
	}
}

static uint32_t state_of(const struct slot *s)
{
	return atomic_load(&s->state);
}

/* What the kernel writes for one event on @fd. */
static void fill_raw(struct slot *s, int fd, uint64_t mask, bool range)
{
	struct {
		struct fanotify_event_metadata m;
		struct fan_range_record r;
	} ev = {
		.m = {.event_len = sizeof(ev.m) + (range ? sizeof(ev.r) : 0),
		      .vers = FANOTIFY_METADATA_VERSION,
		      .metadata_len = sizeof(ev.m),
		      .mask = mask,
		      .fd = fd,
		      .pid = 4711},
		.r = {.type = FAN_EVENT_INFO_TYPE_RANGE,
		      .len = sizeof(ev.r),
		      .offset = 8192,
		      .count = 4096},
	};

	memcpy(s->raw, &ev, ev.m.event_len);
}

static int open_file(int number)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	if (number < 0)
		return fd;
	assert_int_equal(dup3(fd, number, O_CLOEXEC), number);
	close(fd);
	return number;
}

/* A slot whose event is on a file of the test. */
static struct slot *waiting(enum slot_group g)
{
	struct slot *s = slots_take(t);

	assert_non_null(s);
	s->group = g;
	fill_raw(s, open_file(-1), FAN_PRE_ACCESS, g == SLOT_CONTENT);
	assert_int_equal(slot_parse(s), 0);
	return s;
}

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

/* --- the next engine --- */

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
	slots_mounted(t, 7, true);
	slots_mounted(t, 8, true);
	slots_mounted(t, 7, true);
	slots_mounted(t, 9, true);
	assert_int_equal(t->nmounted, 3);
	slots_mounted(t, 7, false);
	slots_mounted(t, 7, false);
	assert_int_equal(t->nmounted, 2);
	assert_int_equal(t->mounted[0] + t->mounted[1], 17);
	for (uint64_t dev = 100; dev < 100 + LIMIT_MOUNTED; dev++)
		slots_mounted(t, dev, true);
	assert_int_equal(t->nmounted, LIMIT_MOUNTED);
	slots_mounted(t, 8, false);
	assert_int_equal(t->nmounted, LIMIT_MOUNTED - 1);
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

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, up, down)

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
		RIGGED(settle_nothing_was_read),
		RIGGED(settle_read_and_not_said),
		RIGGED(settle_waiting),
		RIGGED(settle_answering),
		RIGGED(settle_denied),
		RIGGED(settle_lost_table),
		RIGGED(settle_lost_twice),
		RIGGED(close_what_nobody_waits_for),
		RIGGED(what_is_mounted_is_listed),
		RIGGED(the_keeper_survives_wild_memory),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
