/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_IMAGES_H
#define PLUGIN_STORE_IMAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "plugin/store/record.h"

struct engine;
struct err;

/*
 * The images of the store: their records, the manifests and configs (blobs/), and index.json,
 * which makes the store an OCI image layout. index.json is written after every change and never
 * read. Tasks only: every function asks the keeper and blocks.
 */

/* All records. One that cannot be read is logged and left out. Free with records_free(). */
int images_load(struct engine *en, struct records *ret, struct err *e);

/*
 * The record of an image by name or manifest digest; the caller's to free. -ENOENT:
 * "image X is not known: tarn pull it first".
 */
int image_find(struct engine *en, const char *image, struct record **ret, struct err *e);

/*
 * Stores a record with its manifest and config. Names are taken from whatever had them before;
 * names and sources an older record of the same manifest has are kept (added to @r).
 */
int image_save(struct engine *en, struct record *r, const void *manifest, size_t manifest_len,
	       const void *config, size_t config_len, struct err *e);

/* Rewrites the record alone; the names are settled as for image_save(). */
int image_update(struct engine *en, struct record *r, struct err *e);

/*
 * Forgets an image by name or digest. Given a name, only that goes while the image has others:
 * then *ret_gone (may be NULL) is false. Layers are left to whoever collects what is unused.
 */
int image_remove(struct engine *en, const char *image, bool *ret_gone, struct err *e);

#endif
