/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_XATTR_H
#define OCI_EROFS_XATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct entry;
struct err;

/*
 * The extended attributes of one inode, in the form they have on disk: a sequence of entries,
 * each a multiple of 4 bytes, without the 12-byte header of the body. All are inline; sharing
 * would pay only for labels that repeat, which layers do not carry.
 */

/*
 * Replaces @out by the attributes of @en. Those that overlayfs gives a meaning to
 * (trusted.overlay.*, user.overlay.*) are left out: they are ours alone to set. -EBADMSG for a
 * name EROFS has no place for or more than fits an inode; the text lacks layer and path.
 */
int xattr_encode(const struct entry *en, struct buf *out, struct err *e);

/* The entry trusted.overlay.opaque=y: what overlayfs takes for "hide the lower directory". */
extern const uint8_t xattr_opaque[];
extern const size_t xattr_opaque_len;

/* Bytes of the whole body: 0 when there is nothing in it, for EROFS has no empty one. */
uint32_t xattr_body_len(size_t encoded, bool opaque);

#endif
