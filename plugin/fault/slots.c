/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fault/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/fault/fan.h"
#include "plugin/loop.h"
#include "plugin/uapi.h"

static bool slot_move(struct slot *s, enum slot_state from, enum slot_state to)
{
	uint32_t expected = from;

	return atomic_compare_exchange_strong(&s->state, &expected, to);
}

uint32_t slots_count(const struct slots *t)
{
	uint32_t n = __atomic_load_n(&t->count, __ATOMIC_RELAXED);

	return n < LIMIT_SLOTS ? n : LIMIT_SLOTS;
}

/* Of two groups, whatever the slot says. */
static int group_of(const struct slot *s, const int group_fd[2])
{
	return group_fd[__atomic_load_n(&s->group, __ATOMIC_RELAXED) == SLOT_EXEC];
}

struct slot *slots_take(struct slots *t)
{
	/* Only the engine's loop thread takes slots; the search starts where the last one ended. */
	static uint32_t cursor;
	uint32_t count = slots_count(t);

	for (uint32_t i = 0; i < count; i++) {
		struct slot *s = &t->s[cursor % count];

		cursor = (cursor + 1) % count;
		if (atomic_load(&s->state) == SLOT_FREE) {
			memset(s->raw, 0, sizeof(s->raw));
			s->table = t->table;
			atomic_store(&s->state, SLOT_READING);
			return s;
		}
	}
	return NULL;
}

void slot_put_back(struct slot *s)
{
	atomic_store(&s->state, SLOT_FREE);
}

static void find_range(struct slot *s, const struct fanotify_event_metadata *m)
{
	uint32_t at = m->metadata_len;

	while (at + sizeof(struct fanotify_event_info_header) <= m->event_len) {
		struct fanotify_event_info_header head;
		struct fan_range_record rec;

		/* Copied: the length of the record before it need not be a multiple of 8. */
		memcpy(&head, s->raw + at, sizeof(head));
		if (head.len < sizeof(head))
			return;
		if (head.info_type == FAN_EVENT_INFO_TYPE_RANGE && head.len >= sizeof(rec) &&
		    at + sizeof(rec) <= m->event_len) {
			memcpy(&rec, s->raw + at, sizeof(rec));
			s->off = rec.offset;
			s->count = rec.count;
			return;
		}
		at += head.len;
	}
}

/* Its records begin where the head ends, and a head may have grown. */
static bool head_ok(const struct fanotify_event_metadata *m)
{
	return m->vers == FANOTIFY_METADATA_VERSION && m->event_len <= SLOT_RAW &&
	       m->metadata_len >= sizeof(*m) && m->metadata_len <= m->event_len;
}

/* #syscalls engine: fstat newfstatat */
int slot_parse(struct slot *s)
{
	const struct fanotify_event_metadata *m = (const void *)s->raw;
	struct stat st;
	int r = 0;

	s->fd = m->fd;
	s->pid = m->pid;
	s->mask = m->mask;
	s->off = s->count = 0;
	s->since_ns = clock_ns();
	s->response = 0;
	atomic_store(&s->waited_ms, 0);
	atomic_store(&s->frozen, 0);
	atomic_store(&s->deaths, 0);
	if (!head_ok(m) || m->fd < 0 || fstat(m->fd, &st) < 0) {
		r = -EBADMSG;
	} else {
		s->dev = st.st_dev;
		s->ino = st.st_ino;
		find_range(s, m);
	}
	atomic_store(&s->state, SLOT_WAITING);
	return r;
}

static void slot_free(struct slot *s)
{
	if (s->fd >= 0)
		close(s->fd);
	memset(s->raw, 0, sizeof(s->raw));
	atomic_store(&s->state, SLOT_FREE);
}

int slot_answer(struct slot *s, int group_fd, uint32_t response)
{
	s->response = response;
	if (slot_move(s, SLOT_WAITING, SLOT_ANSWERING)) {
		/* ENOENT: the keeper of an earlier life answered it already. */
		int r = fan_answer(group_fd, s->fd, response);

		if (r == -EINVAL)
			fan_answer(group_fd, s->fd, FAN_DENY);
	} else if (atomic_load(&s->state) != SLOT_DENIED) {
		return -EAGAIN;
	}
	slot_free(s);
	return 0;
}

/*
 * The fd table went with the anchor: the number is only a number now. A placeholder, any descriptor
 * we have, keeps the kernel from giving it to another event before this one is answered. The
 * engine's own fixed descriptors have the same numbers in every table, so no event can have one of
 * those.
 *
 * #syscalls engine: dup3
 */
static void hold_number(struct slots *t, struct slot *s, int any)
{
	if (s->table == t->table)
		return;
	dup3(any, s->fd, O_CLOEXEC);
	s->table = t->table;
}

/*
 * Read, and the engine died before it could say so. Without the table it was read into nobody can
 * tell any more which file it is about. An exec or open reads nothing by itself and may go on. A
 * read may not, for it could be shown zeros: it mostly was read-ahead, and the kernel asks again.
 */
static void settle_read(struct slots *t, struct slot *s, const int group_fd[2])
{
	const struct fanotify_event_metadata *m = (const void *)s->raw;
	const bool lost = s->table != t->table;

	s->fd = m->fd;
	hold_number(t, s, group_fd[0]);
	if (slot_parse(s) < 0 || (lost && s->group != SLOT_EXEC))
		slot_answer(s, group_of(s, group_fd), FAN_DENY_WITH(EIO));
	else if (lost)
		slot_answer(s, group_of(s, group_fd), FAN_ALLOW);
}

static void settle_one(struct slots *t, struct slot *s, const int group_fd[2])
{
	const struct fanotify_event_metadata *m = (const void *)s->raw;

	switch (atomic_load(&s->state)) {
	case SLOT_READING:
		if (m->event_len)
			settle_read(t, s, group_fd);
		else
			slot_put_back(s);
		break;
	case SLOT_WAITING:
		hold_number(t, s, group_fd[0]);
		/* What it waited for without its time being counted ended with the engine. */
		atomic_store(&s->frozen, 0);
		break;
	case SLOT_ANSWERING:
		hold_number(t, s, group_fd[0]);
		fan_answer(group_of(s, group_fd), s->fd, s->response);
		slot_free(s);
		break;
	case SLOT_DENYING:
	case SLOT_BURYING:
		hold_number(t, s, group_fd[0]);
		break;
	case SLOT_DENIED:
		if (s->table != t->table)
			s->fd = -1; /* closed with its table; the number is somebody else's */
		slot_free(s);
		break;
	default:
		break;
	}
}

void slots_settle(struct slots *t, const int group_fd[2])
{
	for (uint32_t i = 0; i < slots_count(t); i++)
		settle_one(t, &t->s[i], group_fd);
	for (uint32_t i = 0; i < SLOTS_HANDLERS; i++)
		atomic_store(&t->in_hand[i], 0);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* #syscalls engine: close_range */
void slots_close_others(struct slots *t, const int *keep, int nkeep)
{
	static int stay[LIMIT_SLOTS + SLOTS_KEEP_MAX];
	unsigned int first = 3;
	size_t n = 0;

	for (int i = 0; i < nkeep && i < SLOTS_KEEP_MAX; i++)
		stay[n++] = keep[i];
	for (uint32_t i = 0; i < slots_count(t); i++)
		if (atomic_load(&t->s[i].state) != SLOT_FREE && t->s[i].fd >= 3)
			stay[n++] = t->s[i].fd;
	qsort(stay, n, sizeof(stay[0]), by_number);
	for (size_t i = 0; i < n; i++) {
		unsigned int fd = (unsigned int)stay[i];

		if (fd > first)
			close_range(first, fd - 1, 0);
		if (fd >= first)
			first = fd + 1;
	}
	close_range(first, ~0u, 0);
}

static void finish_deny(struct slot *s, const int group_fd[2], enum slot_state state)
{
	if (fan_answer(group_of(s, group_fd), s->fd, FAN_DENY_WITH(EIO)) == -EINVAL)
		fan_answer(group_of(s, group_fd), s->fd, FAN_DENY);
	slot_move(s, state, SLOT_DENIED);
}

/* An answer that is not the engine's, which, this one or the next, closes the descriptor. */
static bool deny(struct slot *s, const int group_fd[2], enum slot_state state)
{
	if (!slot_move(s, SLOT_WAITING, state))
		return false;
	finish_deny(s, group_fd, state);
	return true;
}

void slots_deny_again(struct slots *t, const int group_fd[2], enum slot_state state)
{
	for (uint32_t i = 0; i < slots_count(t); i++)
		if (atomic_load(&t->s[i].state) == state)
			finish_deny(&t->s[i], group_fd, state);
}

unsigned slots_enforce(struct slots *t, const int group_fd[2], uint32_t tick_ms,
		       uint32_t deadline_ms)
{
	unsigned denied = 0;

	for (uint32_t i = 0; i < slots_count(t); i++) {
		struct slot *s = &t->s[i];
		uint32_t waited;

		if (atomic_load(&s->state) != SLOT_WAITING || atomic_load(&s->frozen))
			continue;
		waited = atomic_fetch_add(&s->waited_ms, tick_ms) + tick_ms;
		if (deadline_ms != DEADLINE_NEVER && waited > deadline_ms)
			denied += deny(s, group_fd, SLOT_DENYING);
	}
	return denied;
}

/* Whoever was killed while it waited needs no answer, but its slot is another's. */
void slots_deny_gone(struct slots *t, const int group_fd[2], uint32_t waited_ms)
{
	for (uint32_t i = 0; i < slots_count(t); i++) {
		struct slot *s = &t->s[i];
		int32_t pid = s->pid;

		if (atomic_load(&s->state) != SLOT_WAITING || pid <= 0 ||
		    atomic_load(&s->waited_ms) < waited_ms)
			continue;
		/* Meanwhile it may have become another reader's. */
		if (kill(pid, 0) < 0 && errno == ESRCH && s->pid == pid &&
		    atomic_load(&s->waited_ms) >= waited_ms)
			deny(s, group_fd, SLOT_DENYING);
	}
}

static unsigned count_deaths(struct slots *t, const int group_fd[2], uint32_t weight)
{
	unsigned denied = 0;

	for (uint32_t i = 0; i < SLOTS_HANDLERS; i++) {
		uint32_t n = atomic_exchange(&t->in_hand[i], 0);

		if (n == 0 || n > slots_count(t))
			continue;
		if (atomic_fetch_add(&t->s[n - 1].deaths, weight) + weight >= SLOT_DEATHS_MAX)
			denied += deny(&t->s[n - 1], group_fd, SLOT_BURYING);
	}
	return denied;
}

unsigned slots_engine_died(struct slots *t, const int group_fd[2])
{
	return count_deaths(t, group_fd, SLOT_DEATH_CRASHED);
}

unsigned slots_engine_killed(struct slots *t, const int group_fd[2])
{
	return count_deaths(t, group_fd, SLOT_DEATH_KILLED);
}

void slots_allow_exec(struct slots *t, const int group_fd[2])
{
	for (uint32_t i = 0; i < slots_count(t); i++) {
		struct slot *s = &t->s[i];

		if (s->group != SLOT_EXEC || !slot_move(s, SLOT_WAITING, SLOT_DENYING))
			continue;
		fan_answer(group_fd[SLOT_EXEC], s->fd, FAN_ALLOW);
		slot_move(s, SLOT_DENYING, SLOT_DENIED);
	}
}

/* Where it is listed, or would be; *@ret_n: how many are. */
static uint32_t find_mounted(const struct slots *t, uint64_t dev, uint32_t *ret_n)
{
	uint32_t n = atomic_load(&t->nmounted), i = 0;

	n = n < LIMIT_MOUNTED ? n : LIMIT_MOUNTED;
	while (i < n && t->mounted[i].dev != dev)
		i++;
	*ret_n = n;
	return i;
}

/* At no moment less is listed than there is. */
void slots_mounted(struct slots *t, uint64_t dev, uint64_t sign)
{
	uint32_t n, i = find_mounted(t, dev, &n);

	if (i == LIMIT_MOUNTED)
		return;
	t->mounted[i].sign = sign;
	if (i < n)
		return;
	t->mounted[i].dev = dev;
	atomic_store(&t->nmounted, n + 1);
}

void slots_unmounted(struct slots *t, uint64_t dev)
{
	uint32_t n, i = find_mounted(t, dev, &n);

	if (i == n)
		return;
	t->mounted[i] = t->mounted[n - 1];
	atomic_store(&t->nmounted, n - 1);
}

unsigned slots_waiting(const struct slots *t)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < slots_count(t); i++)
		n += atomic_load(&t->s[i].state) != SLOT_FREE;
	return n;
}
