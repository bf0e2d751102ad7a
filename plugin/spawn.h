/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_SPAWN_H
#define PLUGIN_SPAWN_H

#include <sys/types.h>

#include "plugin/ward.h"

struct err;

/*
 * clone3(2) of this process with CLONE_FILES: parent and child use one descriptor table from then
 * on. Returns like fork(2). The calling process must not need the C library's locks in the child.
 *
 * @pidfd (may be NULL) gets the child's pidfd before the child runs. It has to be in the shared
 * memory that records descriptors: the child closes what is not recorded, and a parent that wrote
 * the number down a moment later would watch, or close, somebody else's descriptor.
 */
pid_t spawn_sharing_files(int32_t *pidfd);

/*
 * keeper: starts an anchor, which starts the engine once ward->anchor_pid is its own. Their table
 * is new: the fixed descriptors below and nothing else. Returns the pid; *ret_pidfd is the keeper's
 * (owned).
 */
pid_t spawn_anchor(const struct birth *b, int *ret_pidfd, struct err *e);

#define ENGINE_FD_KEEP    3 /* requests to the keeper */
#define ENGINE_FD_CONTENT 4
#define ENGINE_FD_EXEC    5
#define ENGINE_FD_SOLO    6 /* solo.h */
#define ENGINE_FD_FIRST   7 /* the first number that is not fixed */

/*
 * keeper: starts a fetcher. *ret_sock (the engine's end) and *ret_buffer (the shared buffer) are
 * owned by the caller, who hands them to the engine.
 */
pid_t spawn_fetcher(const struct birth *b, int *ret_pidfd, int *ret_sock, int *ret_buffer,
		    struct err *e);

/*
 * keeper, at the first start: a child gives up its rights as a fetcher does, and ends. Where that
 * cannot be done nothing could ever be fetched.
 */
int spawn_try_fetcher(const struct birth *b, struct err *e);

#endif
