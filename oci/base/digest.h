/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_DIGEST_H
#define OCI_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct err;

/* Only sha256 is accepted (OCI image-spec descriptor.md: implementations MUST support it). */
#define DIGEST_SIZE 32
#define DIGEST_HEX  64
#define DIGEST_TEXT (7 + DIGEST_HEX + 1) /* "sha256:" + hex + NUL */

struct digest {
	uint8_t sum[DIGEST_SIZE];
};

/* "sha256:<64 lower-case hex>", nothing else. -EINVAL names the input. */
int digest_parse(const char *text, struct digest *ret, struct err *e);
/* The 64 hex digits alone. */
int digest_parse_hex(const char *hex, size_t len, struct digest *ret);
const char *digest_text(const struct digest *d, char out[DIGEST_TEXT]); /* returns @out */
const char *digest_hex(const struct digest *d, char out[DIGEST_HEX + 1]);

static inline bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->sum, b->sum, DIGEST_SIZE) == 0;
}

bool digest_is_zero(const struct digest *d);

/* One shot. Returns 0 or -ENOMEM (the crypto library could not make a context). */
int digest_of(const void *data, size_t len, struct digest *ret);

/* A running sum (OpenSSL EVP, which uses the CPU's instructions where it has them). */
struct hasher;
struct hasher *hasher_new(void);              /* NULL when out of memory */
struct hasher *hasher_free(struct hasher *h); /* NULL-safe; returns NULL */
int hasher_reset(struct hasher *h);
int hasher_update(struct hasher *h, const void *data, size_t len);
int hasher_final(struct hasher *h, struct digest *ret); /* then reset before the next use */

static inline void hasher_freep(struct hasher **h)
{
	hasher_free(*h);
}

#endif
