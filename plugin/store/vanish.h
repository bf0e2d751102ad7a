/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_VANISH_H
#define PLUGIN_STORE_VANISH_H

struct engine;

/*
 * Are the blobs of mounted layers still where they came from? Every http.check (tarn.conf), or
 * somewhat earlier or later so that hosts do not ask in step, one byte of each is asked for, one
 * after the other. What is not there any more is told in the log and by status, before a reader
 * wants it: see layer.vanished.
 */
struct vanish;

/* Loop thread. -ENOMEM. It lives as long as the engine. */
int vanish_start(struct engine *en);

#endif
