/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_GRAFT_H
#define HOOKS_GRAFT_H

#include <stdbool.h>

struct err;
struct target;

/*
 * Where the runtime has pinned its root directory, that stays the root, and every entry of the
 * image's root directory is mounted on an entry of the same name in it: directories and files by
 * copies of the image's mount (@image, detached), symbolic links as links. The runtime's own mounts
 * are put aside meanwhile, and then moved to where the image says their names are. All that the
 * runtime does later by the descriptor it holds (masks, read-only paths) meets the copies.
 *
 * @cwd (or NULL) is made where it is missing: with @readonly (root.readonly) the runtime cannot,
 * for its root is a mount of its own and so the copies are made read-only here.
 *
 * What is left of the stub: `/` itself is a directory of the host. New entries in it are kept
 * there, links and renames between top-level entries are not possible, and these cannot be renamed
 * or removed.
 */
int graft(const struct target *t, int image, const char *cwd, bool readonly, struct err *e);

#endif
