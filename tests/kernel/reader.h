/* SPDX-License-Identifier: Apache-2.0 */
/* What reader.c counts, and the calls it times. */
#ifndef TESTS_READER_H
#define TESTS_READER_H

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

/* A process's counts, in memory it shares with the first. */
struct tally {
	_Atomic uint64_t files, bytes, execs, busy, errors, wrong, max_ms, pause_ms;
	_Atomic uint64_t since_ms; /* it waits for a call or a page since then; 0: it does not */
	char path[PATH_MAX];       /* that file */
};

/* One more than there are processes: in the last, `files` is the wish to end. */
static struct tally *tallies, *mine;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Around whatever may wait for content. */
static void pause_begin(void)
{
	mine->since_ms = now_ms();
}

static void pause_end(void)
{
	uint64_t took = now_ms() - mine->since_ms;

	mine->since_ms = 0;
	if (took > mine->pause_ms)
		mine->pause_ms = took;
}

static int open_timed(const char *path)
{
	int fd;

	pause_begin();
	fd = open(path, O_RDONLY | O_CLOEXEC);
	pause_end();
	return fd;
}

static ssize_t pread_timed(int fd, void *buf, size_t n, off_t at)
{
	ssize_t got;

	pause_begin();
	got = pread(fd, buf, n, at);
	pause_end();
	return got;
}

/* Over the first @n of them, of the counter at @offset. */
static uint64_t sum(size_t offset, unsigned n)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < n; i++)
		all += *(_Atomic uint64_t *)((char *)&tallies[i] + offset);
	return all;
}

static uint64_t most(size_t offset, unsigned n)
{
	uint64_t one, max = 0;

	for (unsigned i = 0; i < n; i++) {
		one = *(_Atomic uint64_t *)((char *)&tallies[i] + offset);
		max = one > max ? one : max;
	}
	return max;
}

#endif
