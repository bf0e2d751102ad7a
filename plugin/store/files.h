/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_FILES_H
#define PLUGIN_STORE_FILES_H

#include <stdbool.h>

#include "plugin/keep.h"

struct err;

/*
 * The keeper's side of the store: directories and names. Everything is made from kinds and
 * digests; nothing from outside becomes part of a path. @store is the store's directory.
 */
#define STORE_FORMAT 1 /* in the file `format`; a newer one is refused */
/* How fd_publish() names what is not complete. */
#define STORE_TMP_PREFIX ".tmp-"

/*
 * Opens @path as a store, making it (0700) when it is missing or empty, and locks it.
 * -EOPNOTSUPP when its file system cannot raise pre-content events, -EBUSY when another tarnd
 * has it, -EINVAL when it is a directory of something else or of a newer tarn.
 */
int store_open(const char *path, int *ret_store, int *ret_lock, struct err *e);

int store_file_open(int store, const struct keep_file *f, int flags, struct err *e);
int store_file_create(int store, const struct keep_file *f, struct err *e);
int store_file_publish(int store, const struct keep_file *f, struct err *e);
int store_file_drop(int store, const struct keep_file *f, struct err *e);
int store_layer_drop(int store, const struct digest *diff_id, const struct digest *scope,
		     struct err *e);
/* A memfd of struct digest[]: the keys that exist of KEEP_RECORD or KEEP_INDEX; of other kinds: */
int store_list(int store, uint32_t kind, struct err *e);
/* A memfd of struct keep_found[] (leftovers.c). */
int store_leftovers(int store, uint32_t kind, struct err *e);
/* A file of a local image layout somewhere else on the host, read only. */
int store_layout_open(const struct keep_layout *l, struct err *e);
/* Temporary files of an earlier life are removed. */
void store_sweep(int store);

/*
 * containers/<id>/upper and work for one container: opened, and made when they are missing, upper
 * with owner, mode, times and attributes of @root (the top of the image's own root directory).
 */
int store_container_open(int store, const char *id, int root, int *ret_upper, int *ret_work,
			 struct err *e);
int store_container_drop(int store, const char *id, struct err *e);
/* Letters, digits and "_.+-", not "." or "..", shorter than LIMIT_ID. */
bool store_id_valid(const char *id);

#endif
