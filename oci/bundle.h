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
	bool terminal;          /* -t */
	bool host_net;          /* --net host */
	bool cgroup_mount;      /* mount /sys/fs/cgroup, as `runc spec` does */
	const char *hostname;   /* NULL: "tarn" */
	const char *const *env; /* K=V, override the image's */
	size_t nenv;
	const char *const *args; /* replace cmd; the entrypoint stays */
	size_t nargs;
	const struct bundle_volume *volumes;
	size_t nvolumes;
	const char *hook_path;   /* absolute path of tarn-hook */
	const char *socket_path; /* handed to the hook in its env */
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
 * may be NULL when the image has none), as Docker does: a number is an id and needs no entry,
 * NULL and "" are id 0, and other groups of the user come along unless a group is named.
 * -ENOENT names the user or group, -EINVAL an id that is too large; -E2BIG: too many groups.
 */
int bundle_user_lookup(const char *user, const char *passwd, const char *group,
		       struct bundle_user *ret, struct err *e);

/*
 * Writes the runtime-spec config.json: process from image config and options, our hooks, an
 * empty rootfs directory "rootfs", and the namespaces, mounts, devices, masked and read-only
 * paths that `runc spec` gives; capabilities as podman's. Same input, same bytes. -EINVAL names
 * what can not be (no command to run, a relative path, text that is not UTF-8); -EFBIG when
 * @out is too small, with part of the document in it.
 */
int bundle_write(const struct run_config *image, const struct bundle_user *user,
		 const struct bundle_options *opt, struct buf *out, struct err *e);

#endif
