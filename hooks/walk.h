/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_WALK_H
#define HOOKS_WALK_H

struct err;

enum walk_want {
	WALK_DIR,    /* a directory; missing ones are made */
	WALK_FILE,   /* anything else; a missing one is made as an empty file */
	WALK_SYSTEM, /* a directory without any symbolic link on the way (/proc, /sys, /dev) */
};

/*
 * Finds @path as a process whose root were @root would, and makes what is missing of it, as
 * runtimes do for the destinations of mounts: symbolic links are followed, but lead nowhere else
 * than below @root, also when they point at nothing yet. The image chooses those links, so each
 * step is one look-up without links from @root, and none goes into procfs, where a name can be
 * anything. Returns an O_PATH descriptor of the right type; a failure names @path.
 */
int walk_in_root(int root, const char *path, enum walk_want want, struct err *e);

#endif
