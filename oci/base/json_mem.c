/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/json_mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* In front of what yajl sees. */
struct json_block {
	struct json_block *next, **at; /* at: what points here */
	max_align_t data[];
};

static struct json_block *block_of(void *p)
{
	return (struct json_block *)((char *)p - offsetof(struct json_block, data));
}

static void *block_add(struct json_mem *m, struct json_block *b)
{
	b->next = m->blocks;
	b->at = &m->blocks;
	if (b->next)
		b->next->at = &b->next;
	m->blocks = b;
	return b->data;
}

static void block_remove(struct json_block *b)
{
	*b->at = b->next;
	if (b->next)
		b->next->at = b->at;
}

static void *mem_realloc(void *ctx, void *p, size_t n)
{
	struct json_mem *m = ctx;
	struct json_block *old = p ? block_of(p) : NULL, *b;

	if (old)
		block_remove(old);
	b = n > SIZE_MAX - sizeof(*b) ? NULL : realloc(old, sizeof(*b) + n);
	if (b)
		return block_add(m, b);
	if (old)
		block_add(m, old);
	longjmp(m->none, 1);
}

static void *mem_malloc(void *ctx, size_t n)
{
	return mem_realloc(ctx, NULL, n);
}

static void mem_release(void *ctx, void *p)
{
	if (!p)
		return;
	block_remove(block_of(p));
	free(block_of(p));
}

void json_mem_init(struct json_mem *m)
{
	*m = (struct json_mem){.funcs = {.malloc = mem_malloc,
					 .realloc = mem_realloc,
					 .free = mem_release,
					 .ctx = m}};
}

void json_mem_free(struct json_mem *m)
{
	while (m->blocks) {
		struct json_block *b = m->blocks;

		block_remove(b);
		free(b);
	}
}

int json_mem_run(struct json_mem *m, int (*fn)(void *ctx), void *ctx)
{
	return setjmp(m->none) ? -ENOMEM : fn(ctx);
}
