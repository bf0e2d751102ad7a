/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BUNDLE_H
#define OCI_BUNDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/config.h"

struct buf;
struct err;

#define ANNOTATION_IMAGE    "org.tarn.image"    /* manifest digest, "sha256:…" */
#define ANNOTATION_RW       "org.tarn.rw"       /* "true" or "false" */
#define ANNOTATION_ATTACHED "org.tarn.attached" /* "runtime": tarn-runtime mounted the rootfs */

/* -v SRC:DST[:ro] */
struct bundle_volume {
	const char *src; /* borrowed; absolute */
	const char *dst; /* borrowed; absolute */
	bool read_only;
};

/* What the user asked for on top of the image's config. All pointers are borrowed. */
struct bundle_options {
	const struct digest *image;
	bool read_only;
	bool terminal;      /* -t */
	bool host_net;      /* --net host */
	bool cgroup_mount;  /* mount /sys/fs/cgroup, as `runc spec` does */
	const char *hostname;
	const char *const *env; size_t nenv;         /* K=V, override the image's */
	const char *const *args; size_t nargs;       /* replaces cmd */
	const struct bundle_volume *volumes; size_t nvolumes;
	const char *hook_path;                       /* absolute path of tarn-hook */
	const char *socket_path;                     /* handed to the hook in its env */
};

/* The user a container runs as, looked up in the image. */
struct bundle_user {
	uint32_t uid, gid;
	uint32_t ngroups;
	uint32_t groups[256];
	char home[LIMIT_PATH]; /* "" when passwd does not say */
};

/*
 * Resolves `user` of an image config against the text of the image's passwd and group (either
 * may be NULL when the image has none). Numeric ids need no entry. -ENOENT names the user.
 */
int bundle_user_lookup(const char *user, const char *passwd, const char *group,
		       struct bundle_user *ret, struct err *e);

/*
 * Writes the runtime-spec config.json: process from image config and options, our hooks, an
 * empty rootfs directory "rootfs", and the namespaces, mounts, devices, default capabilities,
 * masked and read-only paths that `runc spec` gives. Same input, same bytes.
 */
int bundle_write(const struct run_config *image, const struct bundle_user *user,
		 const struct bundle_options *opt, struct buf *out, struct err *e);

#endif
