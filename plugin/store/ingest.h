/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_INGEST_H
#define PLUGIN_STORE_INGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/descriptor.h"
#include "plugin/store/sources.h"

struct engine;
struct err;
struct index;
struct watch;

/*
 * Making a layer known to the store: one pass over its blob by a fetcher of its own, which hands
 * over the plain tar span by span, its table of contents and the map of the blob. Everything is
 * hashed and checked here.
 *
 * Files appear in this order: tar, image.erofs, blob map, present, sources.json, index. A layer
 * exists when its `index` does; what a crash leaves without one is done again from the start, and
 * nothing else ever looks at it.
 */
struct ingest {
	struct engine *en; /* borrowed, as all pointers */
	struct digest diff_id;
	struct digest scope; /* zero: the shared place */
	struct descriptor blob;
	const struct source *from;
	bool keep;                 /* the content too; else the tar is one hole of the full size */
	bool must;                 /* ...or it fails; else a full store keeps none of it */
	const char *what;          /* "layer sha256:…" */
	const struct watch *watch; /* may be NULL */
	uint64_t tar_size;         /* set on success */
};

/*
 * The caller has CLAIM_INGEST on the diff_id. When the layer exists, only the map of this blob is
 * added: its content is hashed, not kept. When it fails, nothing of a new layer is left.
 */
int layer_ingest(struct ingest *in, struct err *e);

/*
 * Does the layer exist (1), and with this blob's map (2)? 0 when it does not. Its tar's size goes
 * to @ret_tar_size. A damaged index counts as none unless it is mounted.
 */
int layer_exists(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		 const struct digest *blob, uint64_t *ret_tar_size, struct err *e);

/*
 * Reads and checks a layer's index. @ret borrows from *@ret_bytes, which is the caller's to free.
 */
int layer_index_read(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		     struct index *ret, void **ret_bytes, struct err *e);

/* Writes and publishes image.erofs for @ix; never while the layer is mounted. */
int layer_image_write(struct engine *en, const struct index *ix, const struct digest *scope,
		      const char *what, struct err *e);

#endif
