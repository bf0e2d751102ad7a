/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_FILLING_H
#define PLUGIN_STORE_FILLING_H

#include <stddef.h>

#include "plugin/store/pins.h"

struct engine;
struct err;
struct watch;

/*
 * Brings content here that nobody waits for. What to bring is said as for a pin: layers, whole or
 * in ranges.
 */

/* One layer, until it is here. -EPIPE when @w says that the client has gone. Tasks only. */
int filling_layer(struct engine *en, const struct pin_layer *want, const struct watch *w,
		  struct err *e);

/*
 * All of them, one after the other, by a thread of its own; what fails is logged. @v and what it
 * points to are taken over in any case. Any thread. -ENOMEM or -EAGAIN.
 */
int filling_start(struct engine *en, struct pin_layer *v, size_t n);

/* What is pinned and not here yet is brought, by a thread of its own. Once, at the start. */
int filling_pins(struct engine *en);

void pin_layers_free(struct pin_layer *v, size_t n);

#endif
