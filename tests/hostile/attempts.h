/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HOSTILE_ATTEMPTS_H
#define TESTS_HOSTILE_ATTEMPTS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * What a process that was taken over would try. Each is made in the process itself, whose end, or
 * whose being refused, is what the tests want to see.
 */
struct attempt {
	const char *name;
	int (*run)(void); /* >= 0: it got through; -1: it was refused, see errno */
	bool may_fail;    /* being refused is enough: others end the process */
	bool fetcher_may; /* a fetcher is meant to be able to */
};

extern const struct attempt attempts[];
extern const size_t nattempts;

/*
 * A build with sanitizers permits what their run-time does (filter.c), and with it some of the
 * attempts. There the first @n tests of a list, those that all must fail, are not among its tests.
 */
#ifdef TARN_TEST_CALLS
#define BUT_STRICT(n) (n)
#else
#define BUT_STRICT(n) 0
#endif

#endif
