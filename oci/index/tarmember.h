/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_TARMEMBER_H
#define OCI_INDEX_TARMEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/limits.h"
#include "oci/index/entry.h"

struct archive_entry;

/*
 * Inside oci/index/ only: makes one of our entries out of one of libarchive's, by the rules of
 * tarscan.h. Holds what an entry points to until the next one is made; starts out zeroed.
 */
struct tarmember {
	char path[LIMIT_PATH];
	char target[LIMIT_PATH];
	struct entry_xattr *xattrs; /* owned */
	uint32_t xattrs_cap;
	uint64_t data_len; /* bytes of data in the tar, also of members that are not shown */
};

extern const char tarmember_no_memory[]; /* the one reason that is not the member's fault */

/*
 * @flag: the type flag (tarhead.h). @off: where the data starts in the tar. NULL and an entry,
 * with @ret_show false for members that stand for nothing, or why the member is refused (static
 * text).
 */
const char *tarmember_take(struct tarmember *m, struct archive_entry *ae, char flag, uint64_t off,
			   struct entry *ret, bool *ret_show);
void tarmember_free(struct tarmember *m); /* what it owns, not @m itself */

#endif
