/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_RECORD_H
#define PLUGIN_STORE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/config.h"
#include "oci/descriptor.h"

struct buf;
struct err;

/*
 * Our record of one image: which names it has, which layers it is made of and whether they are
 * proved, and what it was pulled from. On disk (images/<manifest digest>.json) as JSON that only
 * these functions write and read. Here is no input or output: images.h has that.
 */
struct record_layer {
	struct digest diff_id;
	struct descriptor blob; /* the compressed layer, as the manifest has it */
	uint64_t size;          /* bytes of the plain tar */
	bool proved;            /* false: it lives under this manifest alone (law 13) */
};

struct record {
	struct digest manifest;
	uint64_t manifest_size;
	bool docker;  /* the manifest calls itself by Docker's media type */
	bool parents; /* it needs a parents image (store/parents.h) */
	struct descriptor config;
	struct strv names;   /* owned; none: known by its digest alone */
	struct strv sources; /* owned; what was pulled, newest last; never a secret */
	uint32_t nlayers;    /* 1..LIMIT_LAYERS */
	struct record_layer layers[LIMIT_LAYERS]; /* bottom first */
};

struct record *record_new(void);              /* NULL when out of memory */
struct record *record_free(struct record *r); /* NULL-safe; returns NULL */

static inline void record_freep(struct record **r)
{
	record_free(*r);
}

int record_encode(const struct record *r, struct buf *out);
/* @what names the input in errors. -EBADMSG for anything record_encode() would not have written. */
int record_decode(const void *data, size_t len, const char *what, struct record **ret,
		  struct err *e);

/* Where a layer's files are: zero (the shared place) once it is proved, else the manifest. */
struct digest record_scope(const struct record *r, const struct record_layer *l);

bool record_has_name(const struct record *r, const char *name);
/* Adding what is there already is success. The oldest source goes when there are too many. */
int record_add_name(struct record *r, const char *name);
int record_add_source(struct record *r, const char *source);
bool record_drop_name(struct record *r, const char *name); /* whether it had it */

/* All records of a store. */
struct records {
	struct record **v; /* owned, and what they point to */
	size_t n;
};

void records_free(struct records *rs);
int records_add(struct records *rs, struct record *r); /* @r is owned by @rs on success */

/* By name, or by "sha256:…" of the manifest; NULL when there is none. Borrowed from @rs. */
struct record *records_find(const struct records *rs, const char *image);
struct record *records_by_digest(const struct records *rs, const struct digest *manifest);

/*
 * The one layer whose diff_id begins with @text ("sha256:" may be left out; at least 12 hex
 * digits). -ENOENT: none, or not a layer at all. -EINVAL: several, or too few digits.
 */
int records_find_layer(const struct records *rs, const char *text, const struct record **ret,
		       const struct record_layer **ret_layer, struct err *e);

/* The store's index.json as an OCI image layout: each image once for each of its names. */
int records_index_json(const struct records *rs, struct buf *out);

#endif
