/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_FIND_H
#define HOOKS_FIND_H

struct err;

/*
 * The real OCI runtime, as an absolute or relative path that the caller frees. @wanted (a path or
 * a name; NULL: nobody said), else the name we were called by (@self, argv[0]) when that is a
 * runtime's, else runc, else crun, from PATH. Never this program itself, under whatever name.
 */
int find_runtime(const char *wanted, const char *self, char **ret, struct err *e);

/* One of tarn's own programs: beside this one, else at @installed (or NULL), else from PATH. */
int find_sibling(const char *name, const char *installed, char **ret, struct err *e);

#endif
