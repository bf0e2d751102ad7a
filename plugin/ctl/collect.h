/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_COLLECT_H
#define PLUGIN_CTL_COLLECT_H

#include <stdint.h>

#include "plugin/keep.h"

struct engine;
struct err;
struct records;

/* Removing what no image names. Tasks only; the caller has closed the gate. */

/*
 * Removes one layer if no record of @rs names it and nobody uses it. 1: gone, its disk space in
 * @ret_freed; 0: it stays.
 */
int collect_layer(struct engine *en, const struct records *rs, const struct digest *diff_id,
		  const struct digest *scope, uint64_t *ret_freed, struct err *e);

#endif
