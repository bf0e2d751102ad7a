/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_OUT_H
#define OCI_EROFS_OUT_H

#include <stddef.h>
#include <stdint.h>

#define OUT_HEAD 1536

/*
 * A file written from its first byte to its last through one large buffer. A failure is sticky:
 * later calls do nothing, and out_flush() returns it.
 */
struct out {
	int fd;       /* borrowed */
	int failed;   /* 0 or -errno */
	uint8_t *buf; /* owned */
	size_t len;   /* bytes in the buffer */
	uint64_t off; /* where in the file the buffer goes */
	/* After the first out_flush(): how the file starts, for a checksum at the end. */
	uint8_t head[OUT_HEAD];
};

int out_init(struct out *o, int fd); /* 0 or -ENOMEM */
void out_done(struct out *o);
void out_put(struct out *o, const void *data, size_t len);
/* Zeros up to @pos, which is not behind us. */
void out_zeros_to(struct out *o, uint64_t pos);
uint64_t out_pos(const struct out *o);
int out_flush(struct out *o); /* 0 or -errno */

#endif
