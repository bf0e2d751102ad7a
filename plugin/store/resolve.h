/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_RESOLVE_H
#define PLUGIN_STORE_RESOLVE_H

#include "oci/base/buf.h"
#include "oci/config.h"
#include "oci/manifest.h"
#include "oci/ref.h"
#include "oci/registry.h"
#include "plugin/store/pull.h"

struct engine;
struct err;

/* An image as its source describes it; nothing of its layers has been looked at. */
struct resolved {
	struct ref ref;
	struct registry_at at;     /* REF_REGISTRY: with user and secret */
	struct digest digest;      /* of the manifest, computed here */
	struct buf manifest_bytes; /* owned */
	struct buf config_bytes;   /* owned */
	bool docker;               /* the manifest names itself by Docker's media type */
	struct manifest manifest;  /* every field checked */
	struct diff_ids diff_ids;  /* as many as the manifest has layers */
};

/*
 * Finds the manifest that @rq asks for, and its config. Digests are computed here; JSON is
 * parsed in a fetcher process of its own, and what comes out of it is checked. Tasks only. The
 * result is the caller's to resolved_free().
 */
int resolve_image(struct engine *en, const struct pull_request *rq, struct resolved **ret,
		  struct err *e);
struct resolved *resolved_free(struct resolved *rs); /* NULL-safe; wipes the secret */

static inline void resolved_freep(struct resolved **rs)
{
	resolved_free(*rs);
}

#endif
