/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_WHOLE_H
#define PLUGIN_STORE_WHOLE_H

struct engine;
struct err;
struct layer;
struct watch;

/*
 * Brings every byte of a mounted layer into its tar and waits until all of it is durable and has
 * been checked against the diff_id. The caller has a reference. Readers go first: this is
 * background work. -EPIPE when the client goes away; what was brought by then stays. Tasks only.
 */
int layer_make_whole(struct engine *en, struct layer *l, const struct watch *w, struct err *e);

#endif
