/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SLOTS_RIG_H
#define TESTS_UNIT_SLOTS_RIG_H

/*
 * A journal of events (plugin/fault/slots.c, fan.c). A pipe stands for each fanotify group: what is
 * answered can be read from its other end. Event descriptors are files of the test. Include
 * cmocka.h first.
 */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "plugin/fault/fan.h"
#include "plugin/fault/slots.h"
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

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, up, down)

#endif
