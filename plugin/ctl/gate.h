/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_GATE_H
#define PLUGIN_CTL_GATE_H

#include <stdbool.h>

/*
 * Between what makes layers and what removes those that no image names: while an image is being
 * pulled its finished layers are named by no record yet. Pulls share the gate, a collection has it
 * alone. Tasks only.
 */
void gate_share(void);
void gate_share_end(void);
/* False when a pull is running. */
bool gate_close(void);
void gate_open(void);

#endif
