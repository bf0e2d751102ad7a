/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HOOKS_ATTACH_H
#define HOOKS_ATTACH_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "plugin/keep.h"

struct err;

/* Asks tarnd for the root file system of a container; used by hook, runtime front and CLI. */
struct attach_request {
	const char *socket; /* borrowed */
	const char *id;     /* container id, checked with attach_id_check() */
	const char *image;  /* "sha256:…" of the manifest, or a name (CLI only) */
	bool rw;
	enum attach_kind kind;
	int32_t pid;
	const char *mount_label; /* linux.mountLabel or NULL */
};

/* The detached overlay mount (owned by the caller); it appears nowhere until it is moved. */
int attach_open(const struct attach_request *rq, int *ret_mount_fd, struct err *e);

/* Letters, digits and "_.+-", first a letter or digit, shorter than LIMIT_ID (as runc does). */
int attach_id_check(const char *id, struct err *e);

/*
 * For whoever hands the mounted image to a runtime as its root: /proc, /sys and /dev must be real
 * directories, or missing. Runtimes make links and nodes in /dev by path, and a link of the image
 * there would lead them to the host (runc 1.1).
 */
int attach_check_root(int mount_fd, struct err *e);

/* The container is gone for good: its writable layer may be removed. */
int attach_remove(const char *socket, const char *id, struct err *e);

#endif
