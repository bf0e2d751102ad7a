/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/fd.h"
#include "plugin/cli/doctor.h"
#include "plugin/fault/fan.h"
#include "plugin/loop.h"
#include "plugin/uapi.h"

#define TRIAL_MS  5000
#define LOOK_MS   20
#define CHUNK     4096u
#define RANGE_MAX (1u << 20) /* trial files are smaller */
#define EVENT_MAX 512        /* one event with its records */

static uint8_t pattern_at(uint64_t off)
{
	return (uint8_t)(1 + (off / 512 * 7 + off % 512) % 255);
}

void pattern_fill(void *data, size_t len, uint64_t off)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)data)[i] = pattern_at(off + i);
}

bool pattern_ok(const void *data, size_t len, uint64_t off)
{
	for (size_t i = 0; i < len; i++)
		if (((const uint8_t *)data)[i] != pattern_at(off + i))
			return false;
	return true;
}

/* --- events --- */

struct event {
	int fd; /* owned until it is answered */
	uint64_t mask, off, count;
};

/* 1 and an event, 0 when there is none now, or -errno. */
static int next_event(int group, struct event *ret)
{
	union {
		struct fanotify_event_metadata meta;
		uint8_t bytes[EVENT_MAX];
	} b;
	ssize_t n = read(group, &b, FAN_EVENT_METADATA_LEN + sizeof(struct fan_range_record) + 8);
	const struct fan_range_record *range = (const void *)(b.bytes + FAN_EVENT_METADATA_LEN);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n < (ssize_t)FAN_EVENT_METADATA_LEN || b.meta.vers != FANOTIFY_METADATA_VERSION)
		return -EPROTO;
	*ret = (struct event){.fd = b.meta.fd, .mask = b.meta.mask};
	if (n >= (ssize_t)(FAN_EVENT_METADATA_LEN + sizeof(*range)) &&
	    range->type == FAN_EVENT_INFO_TYPE_RANGE) {
		ret->off = range->offset;
		ret->count = range->count;
	}
	return 1;
}

/* The content appears, through the event's own descriptor, which raises no event. */
static int fill(const struct event *ev)
{
	uint64_t end = ev->off + (ev->count < RANGE_MAX ? ev->count : RANGE_MAX);
	uint8_t data[CHUNK];
	int r = 0;

	for (uint64_t off = ev->off; r == 0 && off < end; off += CHUNK) {
		size_t n = end - off < CHUNK ? (size_t)(end - off) : CHUNK;

		pattern_fill(data, n, off);
		r = fd_pwrite_full(ev->fd, data, n, off);
	}
	return r;
}

static void answer(int group, struct event *ev)
{
	uint32_t response = FAN_ALLOW;

	if (ev->mask & FAN_PRE_ACCESS)
		response = fill(ev) == 0 ? FAN_ALLOW : FAN_DENY;
	else if (ev->mask & (FAN_OPEN_PERM | FAN_OPEN_EXEC_PERM))
		response = FAN_DENY_WITH(EBUSY);
	fan_answer(group, ev->fd, response);
	close(ev->fd);
}

/* --- the child --- */

static pid_t start(int (*fn)(void *ctx), void *ctx)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	/* A child must not outlive us, nor hold our groups when it does not end. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(fn(ctx));
}

static int exit_status(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A child that waits for an answer of ours dies all the same: the wait is killable. */
static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void wait_events(int group)
{
	struct pollfd p = {.fd = group, .events = POLLIN};

	poll(&p, 1, LOOK_MS);
}

int trial_run(int group, int (*fn)(void *ctx), void *ctx, unsigned *ret_events)
{
	uint64_t until = clock_ms() + TRIAL_MS;
	pid_t pid = start(fn, ctx);
	unsigned events = 0;
	int status;

	if (pid < 0)
		return -errno;
	while (clock_ms() < until) {
		struct event ev;
		int r = next_event(group, &ev);

		if (r > 0) {
			answer(group, &ev);
			events++;
			continue;
		}
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (ret_events)
				*ret_events = events;
			return exit_status(status);
		}
		wait_events(group);
	}
	end(pid);
	return -ETIMEDOUT;
}

int trial_kill(int group, int (*fn)(void *ctx), void *ctx)
{
	uint64_t until = clock_ms() + TRIAL_MS;
	pid_t pid = start(fn, ctx);
	struct event ev;

	if (pid < 0)
		return -errno;
	while (clock_ms() < until) {
		int r = next_event(group, &ev);

		if (r > 0) {
			end(pid);
			answer(group, &ev);
			return 0;
		}
		if (r < 0)
			break;
		wait_events(group);
	}
	end(pid);
	return -ETIMEDOUT;
}
