/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_MNT_H
#define HOOKS_MNT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The mount calls that take descriptors (Linux 5.2 and later; mount_setattr 5.12). No path is ever
 * resolved by them: what a descriptor was opened as is what they work on. 0, a descriptor or
 * -errno.
 */

/* A detached copy of the mount and directory (or file) open at @fd, with all below if @recursive.
 */
int mnt_clone(int fd, bool recursive);
/* The same of the entry @name of a directory; a symbolic link is not followed. */
int mnt_clone_at(int dirfd, const char *name, bool recursive);

/* Attaches the detached mount @fd on top of what is open at @target. */
int mnt_move(int fd, int target);

/* Of the mount open at @fd alone. */
int mnt_set_readonly(int fd);
/* Of it and all below: no mount made there is seen anywhere else. */
int mnt_set_private(int fd);

/* The id of the mount that @fd is in, as /proc/PID/mountinfo has it (Linux 5.8). */
int mnt_id(int fd, int *ret);
/* Is @fd the root of a mount? */
int mnt_is_root(int fd, bool *ret);

#endif
