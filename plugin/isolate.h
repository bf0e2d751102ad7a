/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_ISOLATE_H
#define PLUGIN_ISOLATE_H

#include <stddef.h>
#include <sys/types.h>

struct buf;
struct err;

/*
 * Giving up rights, in named stages. Each says what the process can still do afterwards; none can
 * be undone.
 */

/*
 * guardian and keeper: exactly the capabilities listed in isolate.c; the rest leaves all sets for
 * good. -EPERM: some of them are not there to begin with.
 */
int isolate_keeper(struct err *e);
/* A guardian that is left behind: root without any capability. */
int isolate_holder(struct err *e);
/*
 * Names what this process lacks of a keeper's capabilities, and of what it takes to be left with
 * them alone; "" when it has them all.
 */
void isolate_keeper_lacks(char *out, size_t size);

/*
 * anchor and engine: own uid and gid, no groups, no capabilities, no new privileges, no file by
 * name but those of /proc. Their system calls: filter.h.
 */
int isolate_engine(uid_t uid, gid_t gid, struct err *e);

/*
 * fetcher: root directory @root_fd (owned; a directory that holds only what a resolver reads, in
 * its etc/), own uid, no capabilities, no new privileges, the system calls of the allow-list and no
 * others, and, where the kernel has landlock, of the files beneath etc/ only their content.
 */
int isolate_fetcher(int root_fd, uid_t uid, gid_t gid, struct err *e);
/* The version of landlock here, from 1 on. -ENOSYS, -EOPNOTSUPP: this kernel does without. */
int isolate_landlock(void);

/*
 * For the programs of root (tarn, tarn-runtime): runs @fn in a child that has no rights and no
 * descriptors, can open nothing, and collects what it appends to its buffer. Text that came out of
 * an image is parsed in there (law 7). The child's error text comes back in @e.
 */
int isolate_call(int (*fn)(void *ctx, struct buf *out, struct err *e), void *ctx, struct buf *out,
		 struct err *e);

#endif
