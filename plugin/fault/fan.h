/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FAULT_FAN_H
#define PLUGIN_FAULT_FAN_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/*
 * The two fanotify groups. `content` takes FAN_PRE_ACCESS marks on tars and
 * gives writable event fds; `exec` takes marks on EROFS superblocks, whose files can only be
 * opened read-only: reading such an event from an O_RDWR group fails with EROFS. Both have an
 * unlimited queue, so that an event can not be lost (a lost permission event is an allowed one).
 * -EOPNOTSUPP when the kernel does not know pre-content events (< 6.14).
 */
int fan_open_content(int *ret_fd, struct err *e);
int fan_open_exec(int *ret_fd, struct err *e);

/* Puts the content mark on, or takes it off, the file that @fd is open on. 0 or -errno. */
int fan_mark_content(int group, int fd, bool on);
/* Sets exactly @mask (FAN_OPEN_EXEC_PERM | FAN_OPEN_PERM, or 0) on the superblock of @mount_fd. */
int fan_mark_fs(int group, int mount_fd, uint64_t mask);

/* Writes one answer. -ENOENT: no event of that number waits (it was answered before). */
int fan_answer(int group, int fd, uint32_t response);

/*
 * Does this kernel accept FAN_DENY_WITH(@err)? Found by answering for an fd number that no event
 * has: ENOENT = yes, EINVAL = no (law 9).
 */
bool fan_errno_supported(int group, int err);

#endif
