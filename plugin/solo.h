/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_SOLO_H
#define PLUGIN_SOLO_H

#include <stdbool.h>
#include <sys/types.h>

struct err;

/*
 * One engine for a store, whoever started it: a lock that anchor and engine hold by a descriptor of
 * their table, and nobody else. It outlives a guardian and a keeper that are killed at the same
 * instant, as the pair does: the groups, and with them who waits, are the pair's then, and a second
 * engine beside it would fill and punch the same files.
 */

/* anchor, while it is root: the lock, as a descriptor; -EBUSY: another pair has it. */
int solo_take(int store, struct err *e);

/*
 * The engine of an anchor that died is killed by the kernel, but may take its time over a disk that
 * does not answer. Two engines at once would read into one journal (law 3). The lock says so, and
 * not what an engine wrote of itself.
 */
bool solo_lives(int store);

/*
 * A first start on @store, which nobody has locked: waits a little for a pair that is about to end.
 * -EBUSY: one serves on, and the words for it.
 */
int solo_check(int store, const char *path, struct err *e);

/*
 * For whoever holds the groups, too, and all that guardian and keeper held: the pair that lost them
 * is ended, if @anchor is still the one that has the lock. solo_check() waits for its end.
 */
void solo_end(int store, pid_t anchor);

#endif
