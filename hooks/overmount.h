/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_OVERMOUNT_H
#define HOOKS_OVERMOUNT_H

struct err;
struct target;

/*
 * Mounts the image's file system (@image, a detached mount) over the root directory of @t, and
 * moves the runtime's own mounts onto it. Only where the runtime
 * holds no descriptor of its root (target_pinned()): it goes on by path, and does to the image what
 * it has yet to do to the root: pivot_root, working directory, read-only, masks.
 */
int overmount(const struct target *t, int image, struct err *e);

#endif
