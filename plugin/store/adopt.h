/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_ADOPT_H
#define PLUGIN_STORE_ADOPT_H

struct engine;
struct keep_reply;

/*
 * What an earlier engine left mounted, as the keeper tells it in answer to KEEP_HELLO. Loading a
 * layer reads files by way of the keeper, which the loop must not wait for: threads of our own do
 * it, the attachments follow when all layers are there, and layers that nothing is attached to
 * are unmounted. Readers of a layer that is not there yet wait. Loop thread only.
 */

/* KEEP_TELL_LAYER. The first two of @fds are taken over. */
void adopt_layer(struct engine *en, const struct keep_reply *msg, int *fds);
/* KEEP_TELL_ATTACHED. */
void adopt_attached(struct engine *en, const struct keep_reply *msg);
/* KEEP_TELL_READY: all has been told, and now it begins. */
void adopt_start(struct engine *en);
/* This attachment is gone before it was adopted. */
void adopt_cancel(const char *id);

#endif
