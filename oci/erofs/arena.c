/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_BLOCK (1u << 20)
#define ARENA_ALIGN 8

struct arena_block {
	struct arena_block *next; /* owned */
	size_t size;
	_Alignas(ARENA_ALIGN) uint8_t data[];
};

static int arena_grow(struct arena *a, size_t n)
{
	size_t size = n > ARENA_BLOCK ? n : ARENA_BLOCK;
	struct arena_block *b = malloc(sizeof(*b) + size);

	if (!b)
		return -1;
	b->next = a->blocks;
	b->size = size;
	a->blocks = b;
	a->left = size;
	return 0;
}

void *arena_alloc(struct arena *a, size_t n)
{
	uint8_t *p;

	if (n > SIZE_MAX / 2)
		return NULL;
	n = ((n ? n : 1) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (n > a->left && arena_grow(a, n) < 0)
		return NULL;
	p = a->blocks->data + a->blocks->size - a->left;
	a->left -= n;
	return memset(p, 0, n);
}

char *arena_strndup(struct arena *a, const char *s, size_t len)
{
	char *p = arena_alloc(a, len + 1);

	if (p)
		memcpy(p, s, len);
	return p;
}

void arena_free(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *b = a->blocks;

		a->blocks = b->next;
		free(b);
	}
	a->left = 0;
}
