/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_ARENA_H
#define OCI_EROFS_ARENA_H

#include <stddef.h>

/*
 * Memory that is given back all at once. A tree of a million files is some million small
 * objects with one life: this saves malloc's header on each and the walk to free them.
 */
struct arena {
	struct arena_block *blocks; /* owned; the newest first */
	size_t left;                /* bytes free in the newest block */
};

/* @n zeroed bytes, aligned for any of our structs (8 bytes), or NULL when out of memory. */
void *arena_alloc(struct arena *a, size_t n);
/* A copy of @len bytes with a NUL behind them. */
char *arena_strndup(struct arena *a, const char *s, size_t len);
void arena_free(struct arena *a);

#endif
