/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_SOURCES_H
#define PLUGIN_STORE_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"
#include "oci/registry.h"

struct buf;
struct engine;
struct err;
struct slots;

/*
 * Where the blobs of one layer can be had (layers/<diff_id>/sources.json). Written and read by
 * us alone. Names and passwords never get there: they are remembered in the memory that outlives
 * an engine (fault/slots.h), and go with tarnd.
 */
struct source {
	bool local;            /* an image layout on this machine, else a registry */
	char dir[LIMIT_PATH];  /* local: absolute */
	struct registry_at at; /* registry: without user and secret */
	struct digest blob;
	uint64_t blob_size;
};

struct sources {
	struct source *v; /* owned */
	size_t n;         /* <= LIMIT_SOURCES */
};

void sources_free(struct sources *s);
/* The newest goes to the end; one that is there already moves there. -ENOMEM. */
int sources_add(struct sources *s, const struct source *one);
int sources_encode(const struct sources *s, struct buf *out);
int sources_decode(const void *data, size_t len, const char *what, struct sources *ret,
		   struct err *e);

/* --- tasks only --- */

/*
 * None are success; a file that is none of ours is logged and counts as none. What may pass, as
 * reading that fails, is an error: taken for none, the next source would be written over all
 * others.
 */
int sources_load(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		 struct sources *ret, struct err *e);
/* Adds @one to the file, unless it is there. The caller has CLAIM_INGEST on the layer. */
int sources_remember(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		     const struct source *one, struct err *e);

/* --- names and passwords; any thread --- */

/* Replaces what was known for host and repository; an anonymous @at leaves it. */
void login_remember(struct slots *t, const struct registry_at *at);
/* Puts user and secret into @at when some are known for its host and repository. */
void login_recall(struct slots *t, struct registry_at *at);

#endif
