/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_PRIVATE_H
#define HOOKS_PRIVATE_H

#include "oci/base/limits.h"

struct err;

#define RUNDIR_DEFAULT "/run/tarn" /* TARN_RUNDIR */

/*
 * A place for a root file system that only this process and what it starts can see: a mount
 * namespace of their own. The host never sees it, and it goes with the last process in it, so that
 * neither a crash nor a kill can leave it behind.
 *
 * What is mounted below a shared mount shows up in all its peers, whatever the namespace. So the
 * run directory is made a mount of its own, once per boot, and that one mount is made private;
 * nothing else changes its propagation, or mounts would no longer travel between host and container
 * where they are wanted to.
 */

/*
 * Where private_mount() puts the root file system: the same place for every container, for each has
 * a namespace of its own. On the host it is an empty directory, which must be there: runc starts
 * the process of `exec` in it. Returns @out.
 */
const char *private_path(const char *rundir, char out[LIMIT_PATH]);

/*
 * Enters a mount namespace of its own, for good, and mounts the detached @image at private_path()
 * in it. @rundir is absolute; it is made when it is missing, and must belong to us alone.
 */
int private_mount(const char *rundir, int image, struct err *e);

/*
 * In the namespace that private_mount() made, after the container's end: @path, where it is still
 * mounted, is let go of. Elsewhere nothing is there to be done.
 */
void private_umount(const char *path);

/* The run directory from the environment, or the usual one. */
const char *private_rundir(void);

/* The run directory is there and safe to use afterwards. */
int private_make_rundir(const char *rundir, struct err *e);

#endif
