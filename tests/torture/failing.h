/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_TORTURE_FAILING_H
#define TESTS_TORTURE_FAILING_H

#include <stdatomic.h>
#include <stdint.h>

/*
 * A file that tarnd-failing and tarn-failing map (TARN_FAILING names it) and failctl writes. A site
 * is a call of malloc(3), open(2) and so on with the functions of ours that led to it; a role is
 * one of tarnd's processes.
 */
#define FAILING_ROLES "start", "guardian", "keeper", "anchor", "engine", "fetcher", "cli"
#define FAILING_SITES 16384
#define FAILING_DEPTH 5

struct failing_site {
	_Atomic uint64_t id; /* 0: free */
	_Atomic uint32_t role, times;
	char call[24];
};

struct failing {
	_Atomic uint32_t record; /* a bit for each role whose sites are written down */
	_Atomic uint32_t role;   /* role + 1 that fails, 0: none */
	_Atomic uint64_t site;   /* in this place; 0: wherever it makes the call `wanted` */
	_Atomic int32_t skip;    /* after so many times that it does not */
	_Atomic int32_t err;     /* with this; 0: as that call fails at all times */
	char wanted[24];
	_Atomic uint32_t fired;
	char call[24];
	uint64_t at[FAILING_DEPTH]; /* in the program, for addr2line */
	struct failing_site sites[FAILING_SITES];
};

#endif
