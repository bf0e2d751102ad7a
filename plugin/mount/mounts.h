/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_MOUNT_MOUNTS_H
#define PLUGIN_MOUNT_MOUNTS_H

#include <stdint.h>

struct err;

/*
 * Detached mounts through the file-descriptor mount API (Linux 6.12+ for file-backed EROFS). They
 * are in no namespace until somebody moves them, and go when their last descriptor closes.
 */

/*
 * Mounts the EROFS image open at @image_fd. @tar_fd, its device 1, must already carry the content
 * mark: whether reads raise events is decided when the kernel opens it here (law 1). -1 for an
 * image without data. The mount descriptor, or -errno.
 */
int mount_erofs(int image_fd, int tar_fd, struct err *e);

/*
 * The number N of the EROFS file system under @mount_fd, which is /sys/class/bdi/erofs-N as long as
 * it lives; no other ever gets it. -EOPNOTSUPP: this kernel does not tell.
 */
int mount_number(int mount_fd, uint64_t *ret);

/* Sets the read-ahead of the EROFS file system under @mount_fd; best effort. */
void mount_set_readahead(int mount_fd, uint32_t kb);

/*
 * An overlay over @lower (detached mounts, bottom first) with @upper and @work. @label is for
 * overlay's context= or "". Hostile lowers cannot redirect lookups (law 6).
 */
int mount_overlay(const int *lower, unsigned n, int upper, int work, const char *label,
		  struct err *e);

/*
 * Which of @n (<= LEASE_PROBE_MAX) EROFS inodes is nobody using: not open, mapped or executing,
 * through any overlay? A write lease is taken and given back at once; it is granted only then
 * (fs/locks.c, check_conflicting_open). granted[i] becomes 1 for those, else 0.
 * @root_fd is open on the file system's root directory (not O_PATH, which open_by_handle_at(2)
 * refuses). May wait for the engine's answer when FAN_OPEN_PERM is on.
 */
#define LEASE_PROBE_MAX 512
void lease_probe(int root_fd, const uint64_t *nids, unsigned n, uint8_t *granted);

#endif
