/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_PARENTS_H
#define OCI_EROFS_PARENTS_H

#include <stdint.h>

#include "oci/index/index.h"

struct buf;
struct err;

/*
 * What an image's layers do not say about its directories.
 *
 * Tars often leave out parent directories that did not change: an upper layer has `tmp/x` and no
 * `tmp/`. Its own EROFS image needs a directory there, made up as 0755 root:root, and in an
 * overlay the attributes of the topmost directory count: /tmp would be 0755 where the layer below
 * says 1777. Layers are shared between images, so this cannot be put right in a layer. Instead an
 * image gets a further lower layer on top of all others, the parents image: directories and
 * nothing else, each with the attributes it should have.
 *
 * In it is every directory that the topmost layer which has it only implies, and that a layer
 * below describes; the root counts. So are the directories above those, since what is on top
 * covers them too. A directory inherits from below as long as nothing in between takes it away: a
 * whiteout or another kind of file at its path or above it, or an opaque marker above it. An
 * opaque marker in the directory itself hides what is in it, not what it is like. Nothing is in
 * the parents image that is not a directory of the whole image in the end, or it would bring back
 * what a layer removed.
 */

/*
 * Appends to @toc (toc_put()) the entries of the parents image of @n layers, bottom first: those
 * of the layers that describe its directories, as they are, lower layers first. Directories above
 * them that no layer describes have no entry; they are made up again. *ret_nentries is 0 when the
 * image needs none. What the layers' trees are is for tree.h to say; memory is for one of these
 * trees and for all directories. -EBADMSG, naming the layer, for a table of contents that breaks
 * the rules.
 */
int parents_find(const struct index *layers, uint32_t n, struct buf *toc, uint64_t *ret_nentries,
		 struct err *e);

/*
 * Writes the parents image that such a table of contents comes to. It is mounted without a device
 * (erofs_image_write_alone()); @of says whose it is, and parents_check() asks for it.
 */
int parents_write(const struct buf *toc, uint64_t nentries, const struct digest *of, int fd,
		  struct err *e);

/* Is this file the parents image of @of, and of this writer? Else -EBADMSG. */
int parents_check(int fd, const struct digest *of, struct err *e);

#endif
