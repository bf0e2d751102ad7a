/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_COLLECT_H
#define PLUGIN_CTL_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "plugin/keep.h"

struct engine;
struct err;
struct records;

/* Removing what no image names. Tasks only; the caller has closed the gate. */

/* What the store has of a kind (keep.h, KEEP_LIST); @ret is the caller's to free. */
int collect_list(struct engine *en, enum keep_kind kind, struct keep_found **ret, size_t *ret_n,
		 struct err *e);

/*
 * Removes one layer if no record of @rs names it and nobody uses it. 1: gone, its disk space in
 * @ret_freed; 0: it stays.
 */
int collect_layer(struct engine *en, const struct records *rs, const struct digest *diff_id,
		  const struct digest *scope, uint64_t *ret_freed, struct err *e);

#endif
