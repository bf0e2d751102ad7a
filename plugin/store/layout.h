/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_LAYOUT_H
#define PLUGIN_STORE_LAYOUT_H

#include <stdint.h>

#include "plugin/keep.h"

struct buf;
struct engine;
struct err;

/*
 * Files of an OCI image layout somewhere on this machine, opened by the keeper. What is in them is
 * from outside. Tasks only.
 */

/* `oci-layout` or `index.json`, at most out->max bytes. */
int layout_read(struct engine *en, const char *dir, enum keep_layout_file which, struct buf *out,
		struct err *e);

/* -EINVAL unless @dir has an `oci-layout` whose imageLayoutVersion is 1.x. */
int layout_check_version(struct engine *en, const char *dir, struct err *e);

/* A blob, read only; it must have @size bytes. The descriptor is the caller's. */
int layout_blob_open(struct engine *en, const char *dir, const struct digest *digest, uint64_t size,
		     int *ret_fd, struct err *e);

#endif
