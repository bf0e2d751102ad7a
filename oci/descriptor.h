/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_DESCRIPTOR_H
#define OCI_DESCRIPTOR_H

#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"

struct err;
struct json;

/* What a media type means to us; OCI and Docker names map to the same value. */
enum media {
	MEDIA_UNKNOWN = 0,
	MEDIA_INDEX,
	MEDIA_MANIFEST,
	MEDIA_CONFIG,
	MEDIA_LAYER_TAR,
	MEDIA_LAYER_GZIP,
	MEDIA_LAYER_ZSTD,
	MEDIA_COUNT
};

/* Parameters after ';' are ignored. MEDIA_UNKNOWN for NULL and for anything we do not read. */
enum media media_of(const char *media_type);
/* The OCI name of a media type; never NULL. */
const char *media_name(enum media m);

/*
 * A content descriptor (image-spec descriptor.md). Plain data: it crosses process borders by
 * value, so it holds no pointers.
 */
struct descriptor {
	enum media media;
	struct digest digest;
	uint64_t size;
};

/* @what names the document for errors ("manifest sha256:…: layers[2]"). */
int descriptor_parse(const struct json *v, const char *what, struct descriptor *ret, struct err *e);

#endif
