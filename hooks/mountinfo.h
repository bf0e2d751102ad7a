/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_MOUNTINFO_H
#define HOOKS_MOUNTINFO_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/* A line of /proc/PID/mountinfo (proc(5)). The strings are borrowed from the table. */
struct mountinfo {
	int id, parent;
	const char *dev;     /* "major:minor" */
	const char *root;    /* of the mount, within its file system */
	const char *point;   /* where it is, seen from the process's root */
	const char *options; /* of this mount, not of the file system */
	const char *fstype;
	const char *super; /* options of the file system */
	bool shared;       /* what is mounted on it is seen elsewhere, too */
};

/* The mounts of a namespace. */
struct mounttab {
	struct mountinfo *v; /* owned */
	size_t n;
	char *text; /* owned */
};

/* @proc is /proc/PID, open. -EBADMSG for a line that is none. */
int mounttab_read(int proc, struct mounttab *ret, struct err *e);
void mounttab_free(struct mounttab *t);

const struct mountinfo *mounttab_by_id(const struct mounttab *t, int id);
/*
 * The mount at @point that no other covers there; NULL when there is none. A mount further up may
 * hide it all the same: whoever depends on it opens the path and compares mnt_id().
 */
const struct mountinfo *mounttab_top(const struct mounttab *t, const char *point);
/* Is @m the mount @id, or below it? */
bool mounttab_within(const struct mounttab *t, const struct mountinfo *m, int id);

#endif
