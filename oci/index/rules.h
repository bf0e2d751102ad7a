/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_RULES_H
#define OCI_INDEX_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct entry;

/*
 * Inside oci/index/ only: what an entry must look like. The scanner makes entries that obey, the
 * writer refuses others, and the reader checks again, since it does not trust the writer.
 */

/* 12 and 20 bits: what the kernel's dev_t holds (include/linux/kdev_t.h). */
#define RULES_MAJOR_MAX 0xfffu
#define RULES_MINOR_MAX 0xfffffu

/* NULL when @entry is in order, else what is wrong with it (static text). */
const char *rules_entry(const struct entry *entry, uint64_t tar_size);

/* NULL for a normalised path (entry.h; the root is ""), else what is wrong with it. */
const char *rules_path(const char *path);

/* Whether an extended attribute may be carried into the index image at all (law 6 and EROFS). */
bool rules_xattr(const char *name);

#endif
