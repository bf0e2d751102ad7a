/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_GRAFT_H
#define HOOKS_GRAFT_H

#include <stdbool.h>

struct err;
struct target;

/*
 * Where the runtime has pinned its root directory, that stays the root, and every entry of the
 * image's root directory is mounted on an entry of the same name in it: directories and files by
 * copies of the image's mount (@image, detached), symbolic links as links. What the runtime has
 * mounted further down is on the copies; what it has mounted right at the top stays as it is. All
 * that it does later by the descriptor it holds (masks, read-only paths) meets the copies.
 *
 * @readonly (root.readonly): the runtime makes its root read-only, so the copies are made it here.
 *
 * What is left of the stub: `/` itself is a directory of the host. New entries in it are kept
 * there, links and renames between top-level entries are not possible, and these cannot be renamed
 * or removed.
 */
int graft(const struct target *t, int image, const char *cwd, bool readonly, struct err *e);

#endif
