/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PRESENT_H
#define PLUGIN_STORE_PRESENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"

struct buf;
struct engine;
struct err;
struct layer;

/*
 * The present file of a layer: which spans its tar held when the file was written. On disk
 * (layers/<diff_id>/present), little-endian:
 *
 *   magic "TARNPRS\1", version u32, flags u32, diff_id[32], nspans u32, 0 u32,
 *   durable: one bit a span, lowest bit of the first byte is span 0
 *   maybe:   likewise; no span has both
 *   sha256 of everything before it
 *
 * With PRESENT_CLEAN nothing has changed since it was written: durable spans are CLEAN, the
 * others of `maybe` are UNPROVEN. Without it the engine worked on the tar afterwards, and may
 * have died: both are UNPROVEN, to be checked on first touch. So a clean file is replaced by one
 * that is not before anything touches the tar, and written anew when nothing will any more.
 */
#define PRESENT_VERSION 1
#define PRESENT_CLEAN   1u
/* All durable, and the tar's sha256 is the diff_id; only with CLEAN. */
#define PRESENT_COMPLETE 2u
/* All was durable, and the tar's sha256 was not the diff_id: nobody reads it. Without COMPLETE. */
#define PRESENT_QUARANTINED 4u

struct present {
	struct digest diff_id;
	uint32_t flags;
	uint32_t nspans;
	uint8_t *durable; /* owned; present_bytes(nspans) each */
	uint8_t *maybe;   /* owned */
};

static inline size_t present_bytes(uint32_t nspans)
{
	return ((size_t)nspans + 7) / 8;
}

static inline bool present_bit(const uint8_t *bits, uint32_t span)
{
	return bits[span / 8] >> (span % 8) & 1;
}

/* No span is there. -ENOMEM. */
int present_new(const struct digest *diff_id, uint32_t nspans, struct present *ret);
void present_free(struct present *p);
/* Every span is durable and the whole was checked: PRESENT_CLEAN | PRESENT_COMPLETE. */
void present_fill(struct present *p);

int present_encode(const struct present *p, struct buf *out);
/* -EBADMSG when it is damaged or not of this layer. */
int present_decode(const void *data, size_t len, const struct digest *diff_id, uint32_t nspans,
		   struct present *ret, struct err *e);

/* --- tasks only --- */

/* For a layer that is not mounted and that the caller has claimed. @scope as in kept.h. */
int present_store(struct engine *en, const struct digest *scope, const struct present *p,
		  struct err *e);

/* Does the file of a layer that is not mounted say that all of it is here, and was checked? */
bool present_whole(struct engine *en, const struct digest *diff_id, const struct digest *scope);

/*
 * What the file says, and from now on the file is not clean. Without a file, or with one that
 * cannot be read, no span is there.
 */
int present_open(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		 uint32_t nspans, struct present *ret, struct err *e);

/*
 * Nothing will touch the mounted layer's tar any more, and what was written is synced: the file
 * becomes clean. Blocks.
 */
int present_close(struct engine *en, struct layer *l, struct err *e);

/*
 * present_close() for all layers, at a clean stop. The caller has seen to it that no eviction
 * runs or will begin, and has synced every layer. From here on present_synced() does nothing. The
 * first failure is returned when all have been tried.
 */
int present_stop(struct engine *en, struct err *e);

/* --- loop thread --- */

/*
 * @l was synced with success: the file is written anew soon, by a thread of our own; several
 * calls within that time are one file.
 */
void present_synced(struct engine *en, struct layer *l);

#endif
