/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_PROC_H
#define PLUGIN_CTL_PROC_H

#include <stddef.h>
#include <stdint.h>

/* What /proc says about a process; best effort, "" where it says nothing. */

#define PROC_COMM      64
#define PROC_CONTAINER 160

void proc_comm(int32_t pid, char out[PROC_COMM]);

/*
 * The container a process is in, from the names of its control groups: Docker's, podman's, CRI-O's
 * and containerd's contain the id as 64 hex digits, runc's and crun's own end in it.
 */
void proc_container(int32_t pid, char out[PROC_CONTAINER]);
/* The same, from the text of a cgroup file (cgroups(7), /proc/[pid]/cgroup). */
void cgroup_container(const char *text, char out[PROC_CONTAINER]);

/*
 * How many descriptors it has, and the bytes of memory that are resident for it alone (proc(5),
 * statm): the buffers that an engine shares with its fetchers are bounded, and filled for ever as
 * soon as they were used. 0 or -errno.
 */
int proc_usage(int32_t pid, uint64_t *ret_fds, uint64_t *ret_rss);

/* When the process was started, in clock ticks since the machine was. 0 or -errno. */
int proc_start(int32_t pid, uint64_t *ret);
/* Seconds since the process was started. 0 or -errno. */
int proc_age_s(int32_t pid, uint64_t *ret);

#endif
