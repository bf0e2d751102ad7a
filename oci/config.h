/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CONFIG_H
#define OCI_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"

struct err;

/* rootfs.diff_ids of an image config: sha256 of each layer's plain tar, bottom first. */
struct diff_ids {
	uint32_t n; /* <= LIMIT_LAYERS */
	struct digest id[LIMIT_LAYERS];
};

int config_diff_ids(const void *data, size_t len, const char *what, struct diff_ids *ret,
		    struct err *e);

/* A growable list of strings; every string and the array are owned by the list. */
struct strv {
	char **v; /* NULL-terminated when v is not NULL */
	size_t n;
};

int strv_add(struct strv *s, const char *text); /* copies */
void strv_free(struct strv *s);

/* What `config` says about how to run the image. All strings owned; NULL or empty where absent. */
struct run_config {
	struct strv env;
	struct strv entrypoint;
	struct strv cmd;
	char *workdir;
	char *user; /* "name", "uid", "name:group", "uid:gid" */
	char *stop_signal;
};

int config_parse_run(const void *data, size_t len, const char *what, struct run_config *ret,
		     struct err *e);
void run_config_free(struct run_config *c);

#endif
