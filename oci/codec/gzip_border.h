/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CODEC_GZIP_BORDER_H
#define OCI_CODEC_GZIP_BORDER_H

#include <stdbool.h>

struct decoder;
struct err;

/* Inside oci/codec/ only: what lies between gzip members, for both gzip decoders. */

/* RFC 1952 2.3: CRC32 and ISIZE */
#define GZIP_TRAILER 8

/*
 * Behind a member or at the blob's start (@any false: there must be one). 1: the next member's
 * header begins, 0: nothing but zero bytes follows, they are skipped; or a negative errno.
 */
int gzip_border(struct decoder *d, bool any, struct err *e);

/* Takes a trailer that the library has not seen. */
int gzip_skip_trailer(struct decoder *d, struct err *e);

#endif
