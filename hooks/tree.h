/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_TREE_H
#define HOOKS_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "hooks/target.h"

struct err;

/*
 * The mounts that a runtime has made in the container's root directory before its hooks run:
 * /proc, /dev, binds on /etc/hosts, volumes. They are moved to the same places in the image's file
 * system, as the runtime would have made them had it been there.
 *
 * Moved, and not copied: crun holds descriptors of mounts that it makes read-only later, and the
 * copies would stay writable. Nothing is half done for anybody to see: init waits for the hook, and
 * when the hook fails, the namespace goes with everything in it.
 */
struct submount {
	const char *point; /* borrowed from the target's table: relative to its root directory */
	int id;            /* of the mount */
	int fd;            /* owned: its root, O_PATH */
	bool dir;
	bool system; /* procfs, sysfs, or what is on /dev: no links on the way there */
};

struct tree {
	struct submount *v; /* owned; those with shorter names come first */
	size_t n;
};

#define _cleanup_tree_ __attribute__((cleanup(tree_free)))

/* Finds the mounts of @t (target_enter() is done); nested ones go where theirs go. */
int tree_find(const struct target *t, struct tree *ret, struct err *e);
void tree_free(struct tree *tr);

/* Moves each to its place below the root directory @root, which is made where it is missing. */
int tree_place(const struct tree *tr, int root, struct err *e);

/* Is one of them right on the top-level entry @name? */
bool tree_has_top(const struct tree *tr, const char *name);

/*
 * Afterwards: does each path at which there was a mount lead to that very mount, below the new root
 * directory @root? So that no mask and no read-only bind can have been lost. -EIO says which one
 * is.
 */
int tree_verify(const struct tree *tr, int root, struct err *e);

#endif
