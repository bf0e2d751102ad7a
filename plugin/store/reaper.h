/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_REAPER_H
#define PLUGIN_STORE_REAPER_H

struct digest;
struct engine;

/* Between load.c and reaper.c: unmounts a layer that nobody uses; -EBUSY: not yet. Tasks only. */
int layer_umount_idle(struct engine *en, const struct digest *diff_id, const struct digest *scope);

#endif
