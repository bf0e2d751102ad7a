/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_MANIFEST_H
#define OCI_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>

#include "oci/descriptor.h"

struct err;

/* An OS/ARCH[/VARIANT] choice. Plain data. */
struct platform {
	char os[32];
	char arch[32];
	char variant[32]; /* "" when any will do */
};

/* "linux/arm64/v8"; -EINVAL names the text. */
int platform_parse(const char *text, struct platform *ret, struct err *e);
/* This machine, from uname(2), in Go's words (x86_64 → amd64, aarch64 → arm64, …). */
void platform_local(struct platform *ret);

/* An image manifest, as far as it is needed to run it. Plain data, bottom layer first. */
struct manifest {
	struct descriptor config;
	uint32_t nlayers; /* <= LIMIT_LAYERS */
	struct descriptor layers[LIMIT_LAYERS];
};

/*
 * What a document under manifests/ turned out to be: an image manifest, or an index (manifest
 * list), of which the entry for the wanted platform is named.
 */
struct manifest_doc {
	enum media media;         /* MEDIA_MANIFEST or MEDIA_INDEX */
	struct manifest manifest; /* for MEDIA_MANIFEST */
	struct descriptor chosen; /* for MEDIA_INDEX: a MEDIA_MANIFEST or MEDIA_INDEX descriptor */
};

/*
 * Parses @data. @content_type is what the transport said, or NULL; it must not contradict the
 * document's own mediaType. Artifact manifests (a layer of no known layer type) are refused by
 * name. Choice in an index: first entry whose os, arch and variant match (no variant asked for:
 * the plainest of the architecture, then any); an entry without a platform matches only when
 * nothing else does. @what names the input in errors.
 */
int manifest_parse(const void *data, size_t len, const char *content_type, const char *what,
		   const struct platform *want, struct manifest_doc *ret, struct err *e);

/*
 * index.json of an OCI image layout: the descriptor whose org.opencontainers.image.ref.name (or
 * io.containerd.image.name) is @ref. @ref NULL takes the only entry, and with several entries is
 * an error that lists their names.
 */
int layout_index_find(const void *data, size_t len, const char *ref, const char *what,
		      const struct platform *want, struct descriptor *ret, struct err *e);

/* The content of an `oci-layout` file: -EINVAL unless imageLayoutVersion is 1.x. */
int layout_version_check(const void *data, size_t len, const char *what, struct err *e);

#endif
