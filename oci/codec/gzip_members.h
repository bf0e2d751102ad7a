/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_CODEC_GZIP_MEMBERS_H
#define OCI_CODEC_GZIP_MEMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct decoder;
struct err;

/*
 * Inside oci/codec/ only: the way from one gzip member to the next, for both gzip decoders.
 *
 * After the last member only zero bytes may follow (tapes and some writers pad; gzip(1) and
 * libarchive accept it too). Anything else that is not a member is refused: other tools either
 * ignore it or fail, and a blob that means different things to different tools is not one to run.
 */
struct gzip_members {
	bool between;  /* before a member or at the end */
	bool any;      /* a member has been seen, or we started inside one */
	bool headless; /* inside the member we resumed in: the library sees no header, no trailer */
	bool trailer;  /* of a headless member, still to skip */
	/* A member's header comes next. 0 or a negative errno. */
	int (*begin)(struct decoder *d, struct err *e);
	/* One call of the library: bytes that came out (0 is progress too), or a negative errno. */
	ssize_t (*some)(struct decoder *d, void *buf, size_t n, struct err *e);
};

/* Decoding begins inside a member; ret_bits: the @nbits of its first byte that are left. */
int gzip_members_resume(struct decoder *d, struct gzip_members *m, unsigned int nbits,
			uint8_t *ret_bits, struct err *e);

/* `some` came to the end of a member. */
void gzip_members_ended(struct gzip_members *m);

/* A decoder's read(): from `some`, in the next member when one has ended. */
ssize_t gzip_members_read(struct decoder *d, struct gzip_members *m, void *buf, size_t n,
			  struct err *e);

#endif
