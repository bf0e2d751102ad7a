/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_TARSCAN_H
#define OCI_INDEX_TARSCAN_H

#include <stdint.h>

struct buf;
struct err;
struct stream;

/*
 * Reads a plain tar from @tar to its end and appends an entry for every member to @toc, with the
 * exact offset of its data. Parsing is libarchive's (tar and nothing else); the rules are ours:
 *
 * - names are anchored at the root: leading "/" and "./" are dropped, ".." is refused, as are
 *   components over 255 bytes, paths of 4096 bytes or more, and NUL bytes;
 * - .wh.NAME and .wh..wh..opq become ENTRY_WHITEOUT and ENTRY_OPAQUE, other .wh..wh.* are
 *   dropped with all that lies below them, a bare ".wh." is refused;
 * - trusted.overlay.*, user.overlay.* xattrs are dropped (law 6); other namespaces than user,
 *   system.posix_acl_*, trusted and security are dropped too: EROFS has no place for them;
 * - sparse members are refused by name: their data is not contiguous in the tar;
 * - SCHILY.acl.* are ignored, as by all image tools; ACLs in images are xattrs of system.*;
 * - data in members that are no files (hard links in PAX archives) and types other than '0' to '7'
 *   are refused: other tools would read a different archive;
 * - owners must fit 32 bits, device numbers the kernel's 12 + 20.
 *
 * Everything after the end-of-archive marker belongs to the tar's bytes but is not parsed.
 */
int tarscan(struct stream *tar, const char *what, struct buf *toc, uint64_t *ret_nentries,
	    struct err *e);

/*
 * To be called once by a process that will scan after it has given up the file system: for the
 * first PAX header libarchive opens a character set conversion, for which the C library reads its
 * tables (gconv-modules.cache). Afterwards nothing is opened any more.
 */
void tarscan_prepare(void);

#endif
