/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "oci/base/err.h"

static const char digest_prefix[] = "sha256:";

#define DIGEST_PREFIX (sizeof(digest_prefix) - 1)

#define SHORTAGE_TRIES 100

struct hasher {
	EVP_MD_CTX *ctx; /* owned */
	bool finished;   /* a sum was taken: only a reset makes sense now */
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	/* Lower case only: image-spec descriptor.md, "[a-f0-9]{64}". */
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int digest_parse_hex(const char *hex, size_t len, struct digest *ret)
{
	struct digest d;

	if (len != DIGEST_HEX)
		return -EINVAL;
	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		int hi = hex_value(hex[2 * i]);
		int lo = hex_value(hex[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EINVAL;
		d.sum[i] = (uint8_t)(hi << 4 | lo);
	}
	*ret = d;
	return 0;
}

int digest_parse(const char *text, struct digest *ret, struct err *e)
{
	if (!text)
		return err_set(e, -EINVAL, "a digest is missing");
	if (strncmp(text, digest_prefix, DIGEST_PREFIX) != 0 ||
	    digest_parse_hex(text + DIGEST_PREFIX, strlen(text + DIGEST_PREFIX), ret) < 0)
		return err_set(e, -EINVAL,
			       "'%.100s' is not a digest of the form sha256:<64 lower-case hex>",
			       text);
	return 0;
}

const char *digest_hex(const struct digest *d, char out[DIGEST_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		out[2 * i] = digits[d->sum[i] >> 4];
		out[2 * i + 1] = digits[d->sum[i] & 15];
	}
	out[DIGEST_HEX] = '\0';
	return out;
}

const char *digest_text(const struct digest *d, char out[DIGEST_TEXT])
{
	memcpy(out, digest_prefix, DIGEST_PREFIX);
	digest_hex(d, out + DIGEST_PREFIX);
	return out;
}

bool digest_is_zero(const struct digest *d)
{
	uint8_t any = 0;

	for (size_t i = 0; i < DIGEST_SIZE; i++)
		any |= d->sum[i];
	return any == 0;
}

int digest_of(const void *data, size_t len, struct digest *ret)
{
	struct digest d;

	/* It lacks memory. Most callers compare, and what is not equal is taken for damaged. */
	for (int tries = 0; EVP_Digest(data, len, d.sum, NULL, EVP_sha256(), NULL) != 1; tries++) {
		if (tries == SHORTAGE_TRIES)
			return -ENOMEM;
		usleep(10000);
	}
	*ret = d;
	return 0;
}

struct hasher *hasher_new(void)
{
	struct hasher *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1)
		return hasher_free(h);
	return h;
}

struct hasher *hasher_free(struct hasher *h)
{
	if (!h)
		return NULL;
	EVP_MD_CTX_free(h->ctx);
	free(h);
	return NULL;
}

int hasher_reset(struct hasher *h)
{
	/* NULL keeps the algorithm that is set, and with it the memory. */
	if (EVP_DigestInit_ex(h->ctx, NULL, NULL) != 1)
		return -ENOMEM;
	h->finished = false;
	return 0;
}

int hasher_update(struct hasher *h, const void *data, size_t len)
{
	if (h->finished)
		return -EINVAL;
	return EVP_DigestUpdate(h->ctx, data, len) == 1 ? 0 : -EIO;
}

int hasher_final(struct hasher *h, struct digest *ret)
{
	struct digest d;

	if (h->finished)
		return -EINVAL;
	h->finished = true;
	if (EVP_DigestFinal_ex(h->ctx, d.sum, NULL) != 1)
		return -EIO;
	*ret = d;
	return 0;
}
