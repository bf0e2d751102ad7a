/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/names.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "oci/erofs/tree.h"

#define NAMES_FIRST 1024

int names_init(struct names *t)
{
	*t = (struct names){.nbuckets = NAMES_FIRST};
	t->buckets = calloc(t->nbuckets, sizeof(*t->buckets));
	if (!t->buckets)
		return -ENOMEM;
	if (getrandom(t->key, sizeof(t->key), 0) != (ssize_t)sizeof(t->key))
		return -EIO;
	return 0;
}

void names_done(struct names *t)
{
	free(t->buckets);
	*t = (struct names){0};
}

static inline uint64_t rotl(uint64_t v, int n)
{
	return v << n | v >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

/* SipHash-1-3: one round a word and three at the end are enough for a hash table. */
uint32_t names_hash(const struct names *t, const struct node *dir, const char *s, size_t len)
{
	uint64_t v[4] = {
		t->key[0] ^ 0x736f6d6570736575u,
		t->key[1] ^ 0x646f72616e646f6du,
		t->key[0] ^ 0x6c7967656e657261u,
		t->key[1] ^ 0x7465646279746573u,
	};
	uint64_t word = 0;

	sip_word(v, (uint64_t)(uintptr_t)dir);
	for (; len >= sizeof(word); s += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, s, sizeof(word));
		sip_word(v, word);
	}
	word = 0;
	memcpy(&word, s, len);
	/* A name of zero bytes and one that ends with them must differ: its length goes on top. */
	sip_word(v, htole64(word) | (uint64_t)len << 56);
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	word = v[0] ^ v[1] ^ v[2] ^ v[3];
	return (uint32_t)(word ^ word >> 32);
}

struct name *names_find(const struct names *t, uint32_t hash, const struct node *dir, const char *s,
			size_t len)
{
	struct name *name = t->buckets[hash & (t->nbuckets - 1)];

	for (; name; name = name->next_in_bucket)
		if (name->hash == hash && name->dir == dir && name->len == len &&
		    memcmp(name->text, s, len) == 0)
			return name;
	return NULL;
}

static void link_name(struct name **buckets, size_t nbuckets, struct name *name)
{
	struct name **at = &buckets[name->hash & (nbuckets - 1)];

	name->next_in_bucket = *at;
	*at = name;
}

static int grow(struct names *t)
{
	size_t nbuckets = t->nbuckets * 2;
	struct name **buckets = calloc(nbuckets, sizeof(*buckets));

	if (!buckets)
		return -ENOMEM;
	for (size_t i = 0; i < t->nbuckets; i++) {
		struct name *name, *next;

		for (name = t->buckets[i]; name; name = next) {
			next = name->next_in_bucket;
			link_name(buckets, nbuckets, name);
		}
	}
	free(t->buckets);
	t->buckets = buckets;
	t->nbuckets = nbuckets;
	return 0;
}

int names_add(struct names *t, struct name *name)
{
	if (t->n >= t->nbuckets && grow(t) < 0)
		return -ENOMEM;
	link_name(t->buckets, t->nbuckets, name);
	t->n++;
	return 0;
}
