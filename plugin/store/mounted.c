/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounted layers, found by what an event names: a fault's cost must not grow with their number,
 * which may be thousands.
 */
#include <stddef.h>

#include "plugin/engine.h"
#include "plugin/store/layer.h"

void engine_layer_add(struct engine *en, struct layer *l)
{
	struct layer **tar = &en->by_tar[l->tar_ino % ENGINE_BUCKETS];
	struct layer **fs = &en->by_fs[l->fs_dev % ENGINE_BUCKETS];

	l->next = en->layers;
	en->layers = l;
	l->next_tar = *tar;
	*tar = l;
	l->next_fs = *fs;
	*fs = l;
}

void engine_layer_remove(struct engine *en, struct layer *l)
{
	struct layer **all = &en->layers;
	struct layer **tar = &en->by_tar[l->tar_ino % ENGINE_BUCKETS];
	struct layer **fs = &en->by_fs[l->fs_dev % ENGINE_BUCKETS];

	while (*all != l)
		all = &(*all)->next;
	*all = l->next;
	while (*tar != l)
		tar = &(*tar)->next_tar;
	*tar = l->next_tar;
	while (*fs != l)
		fs = &(*fs)->next_fs;
	*fs = l->next_fs;
}

struct layer *engine_layer_by_tar(struct engine *en, uint64_t dev, uint64_t ino)
{
	for (struct layer *l = en->by_tar[ino % ENGINE_BUCKETS]; l; l = l->next_tar)
		if (l->tar_ino == ino && l->tar_dev == dev)
			return l;
	return NULL;
}

struct layer *engine_layer_by_fs(struct engine *en, uint64_t fs_dev)
{
	for (struct layer *l = en->by_fs[fs_dev % ENGINE_BUCKETS]; l; l = l->next_fs)
		if (l->fs_dev == fs_dev)
			return l;
	return NULL;
}
