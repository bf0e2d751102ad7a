/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CHOICE_H
#define OCI_CHOICE_H

#include "oci/manifest.h"

struct json;

/* Room for the name of a document and of a member in it: "manifest sha256:…: layers[127]". */
#define CHOICE_WHAT 256

/*
 * Choosing one entry of an index's `manifests`; for manifest.c alone. An entry's names are its
 * annotations org.opencontainers.image.ref.name and io.containerd.image.name. @what names the
 * index in errors.
 */

/*
 * Whether there is an entry named @ref, or just one entry when @ref is NULL. -ENOENT or -EINVAL
 * list the names there are.
 */
int choice_named(const struct json *entries, const char *ref, const char *what, struct err *e);

/*
 * The best entry for @want among those named @ref (all of them when @ref is NULL), the first of
 * equals. -ENOENT lists the platforms there are.
 */
int choice_make(const struct json *entries, const char *ref, const char *what,
		const struct platform *want, struct descriptor *ret, struct err *e);

#endif
