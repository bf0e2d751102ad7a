/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BUNDLE_SPEC_H
#define OCI_BUNDLE_SPEC_H

#include "oci/bundle.h"

struct json_gen;

#define BUNDLE_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* All that config.json says and that is not the same for every container; for bundle.c alone. */
struct bundle_spec {
	const struct bundle_options *opt; /* borrowed, checked */
	const struct bundle_user *user;   /* borrowed */
	const char *cwd;                  /* borrowed */
	const char *stop_signal;          /* borrowed; NULL when the image names none */
	struct strv args;                 /* owned */
	struct strv env;                  /* owned */
	struct strv hook_env;             /* owned */
};

/* Writes the document. Failures are sticky in the buffer behind @g. */
void bundle_spec_put(struct json_gen *g, const struct bundle_spec *s);

#endif
