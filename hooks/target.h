/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_TARGET_H
#define HOOKS_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "hooks/mountinfo.h"

struct err;

/*
 * The container whose init waits for our hook: its mount namespace is made and its mounts are,
 * its root is not changed yet. In this order:
 *
 *	target_open()    its process, by pid, from here on by descriptor
 *	target_look()    its mounts and its root directory, seen from outside
 *	target_enter()   this process goes into its mount namespace, for good
 */
struct target {
	int32_t pid;
	int pidfd;           /* owned */
	int proc;            /* owned: /proc/PID */
	char *path;          /* owned: real path of the root directory */
	int mount;           /* id of the mount there */
	int rootfs;          /* owned: the root directory, O_PATH; after target_enter() */
	struct mounttab tab; /* owned: before anything was changed */
};

#define TARGET_INIT                                                                                \
	{                                                                                          \
		.pidfd = -1, .proc = -1, .rootfs = -1                                              \
	}
#define _cleanup_target_ __attribute__((cleanup(target_close)))

/* -ESRCH: it is dead. -EPERM: its mount namespace is ours, so that we would mount on the host. */
int target_open(int32_t pid, struct target *ret, struct err *e);
void target_close(struct target *t);

/* @path is root.path, absolute. Refuses a root that is no mount, or a shared one. */
int target_look(struct target *t, const char *path, struct err *e);

/*
 * Does init hold a descriptor of its root directory? Then it will use that and not the path: what
 * is mounted over the root now would be missed (runc 1.3.6 and newer), or would come without masks
 * and read-only paths (crun). True also when that cannot be found out.
 */
bool target_pinned(const struct target *t);

/* The process must have one thread. Checks once more that path and mount are what was looked at. */
int target_enter(struct target *t, struct err *e);

/* Is its process still there? 0 or -ESRCH. */
int target_alive(const struct target *t, struct err *e);

#endif
