/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_JSON_MEM_H
#define OCI_BASE_JSON_MEM_H

#include <setjmp.h>

#include <yajl/yajl_common.h>

/*
 * Memory for yajl, which does not look whether it got any. For json.c and json_gen.c alone. It must
 * not move: yajl holds on to funcs.
 */
struct json_mem {
	yajl_alloc_funcs funcs;
	struct json_block *blocks; /* owned: all that yajl has */
	jmp_buf none;              /* where to go when there is none */
};

void json_mem_init(struct json_mem *m);
/* Frees whatever yajl still has, and with that every object of its. */
void json_mem_free(struct json_mem *m);

/*
 * Calls @fn, in which alone yajl may ask for memory; → its result. -ENOMEM: there was none, and @fn
 * was left in the middle. yajl's objects can then not be used any more, but for json_mem_free().
 */
int json_mem_run(struct json_mem *m, int (*fn)(void *ctx), void *ctx);

#endif
