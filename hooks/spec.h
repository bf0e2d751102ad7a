/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_SPEC_H
#define HOOKS_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "oci/base/digest.h"

struct err;
struct json;

/* Of a rewritten config.json: the root.path it had before (see edit.h). */
#define ANNOTATION_ROOTFS "org.tarn.rootfs"
/* "true": the writable layer stays when the runtime deletes the container. */
#define ANNOTATION_KEEP "org.tarn.keep"

/* A bundle's config.json (runtime-spec), as far as it concerns the root file system. */
struct spec {
	int dir;              /* owned: the bundle */
	char *bundle;         /* owned: its real path */
	struct json *doc;     /* owned; the rest is borrowed from it */
	mode_t mode;          /* of the file */
	const char *image;    /* org.tarn.image as it stands; NULL: not for us */
	struct digest digest; /* of the image; spec_check() */
	bool rw;              /* org.tarn.rw */
	bool prepared;        /* org.tarn.attached: tarn-runtime has been here */
	bool kept;            /* by its engine or by org.tarn.keep: delete is no removal */
	bool readonly;        /* root.readonly */
	const char *root;     /* root.path, "" when missing */
	const char *label;    /* linux.mountLabel or NULL */
	const char *cwd;      /* process.cwd or NULL */
};

/*
 * Reads @bundle/config.json, which must be a file in that directory and no link. When it has no
 * org.tarn.image, nothing else is looked at. Close with spec_close(), also after a failure.
 */
int spec_open(const char *bundle, struct spec *ret, struct err *e);
void spec_close(struct spec *s);

/*
 * For a bundle with an image: is what it says possible? The image must be a digest, the container
 * must have a mount namespace of its own, and no user namespace with other ids: nobody maps the
 * owners of the image's files.
 */
int spec_check(struct spec *s, struct err *e);

/* Absolute path of the root directory; the caller frees it. */
int spec_root_path(const struct spec *s, char **ret, struct err *e);

#define SPEC_INIT                                                                                  \
	{                                                                                          \
		.dir = -1                                                                          \
	}
#define _cleanup_spec_ __attribute__((cleanup(spec_close)))

#endif
