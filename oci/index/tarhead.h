/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_TARHEAD_H
#define OCI_INDEX_TARHEAD_H

#include <stddef.h>
#include <stdint.h>

/*
 * Inside oci/index/ only. A second look at the raw header blocks of a member that libarchive has
 * accepted, for the things its interface hides or smooths over: it cuts a PAX path at a NUL,
 * reports a sparse file with one block as a whole one, lets SCHILY.realsize speak for the stored
 * size, and takes every type it does not know for a regular file. Nothing is taken from here but
 * the type: the answer is only "yes" or a reason to refuse.
 */

/*
 * @raw: from the member's first header block to where its data starts. NULL and the type flag in
 * @ret_type ('0' for NUL), or why the member is refused (static text).
 */
const char *tarhead_check(const uint8_t *raw, size_t len, char *ret_type);

#endif
