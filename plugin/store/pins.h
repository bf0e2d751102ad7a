/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PINS_H
#define PLUGIN_STORE_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/config.h"

struct buf;
struct engine;
struct err;
struct layer;

/*
 * What is never evicted: images, or paths of them, and which bytes of which layers that is. Kept
 * in pins.json, which only these functions write and read, and in memory under a lock.
 */
struct pin_range {
	uint64_t off, end; /* bytes of the tar, [off, end) */
};

struct pin_layer {
	struct digest diff_id, scope;
	bool whole;
	struct pin_range *v; /* owned; sorted, not touching; none when whole */
	size_t n;
};

struct pin {
	struct digest image;      /* of the manifest */
	char *name;               /* owned; how the user called it */
	struct strv paths;        /* owned; none: the whole image */
	struct pin_layer *layers; /* owned */
	size_t nlayers;
};

struct pins {
	struct pin *v; /* owned */
	size_t n;
};

void pin_free(struct pin *p); /* what it points to */
#define _cleanup_pin_ __attribute__((cleanup(pin_free)))
void pins_free(struct pins *ps);
#define _cleanup_pins_ __attribute__((cleanup(pins_free)))

int pins_encode(const struct pins *ps, struct buf *out);
/* -EBADMSG for anything pins_encode() would not have written. */
int pins_decode(const void *data, size_t len, struct pins *ret, struct err *e);

/* Is a byte of [@off, @end) of the layer @diff_id pinned by one of @ps? */
bool pins_cover(const struct pins *ps, const struct digest *diff_id, uint64_t off, uint64_t end);

/* --- the store's pins; tasks only, they block --- */

/* Reads the file, once; later calls are free. */
int pins_load(struct engine *en, struct err *e);
/* Adds or replaces the pin of one image. @p is taken over on success (and is then empty). */
int pins_put(struct engine *en, struct pin *p, struct err *e);
/* Drops the pin of an image. Whether there was one goes to @ret_had. */
int pins_drop(struct engine *en, const struct digest *image, bool *ret_had, struct err *e);
/* A copy of one image's pin, the caller's to pin_free(). 1, or 0 when there is none. */
int pins_get(struct engine *en, const struct digest *image, struct pin *ret, struct err *e);
/* The images that are pinned; @ret is the caller's to free. */
int pins_images(struct engine *en, struct digest **ret, size_t *ret_n, struct err *e);

/*
 * Must this span stay? Any thread, does not block. While the file has not been read everything
 * must stay: tasks call pins_load() first.
 */
bool pins_span(const struct layer *l, uint32_t span);
/* The same for bytes of a layer that is not mounted. */
bool pins_bytes(const struct digest *diff_id, uint64_t off, uint64_t end);

#endif
