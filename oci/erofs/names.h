/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_NAMES_H
#define OCI_EROFS_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct name;
struct node;

/*
 * All names of a tree by (directory, name): one hash table, so that a directory of a hundred
 * thousand names costs no more than a hundred thousand directories. The hash is keyed (SipHash)
 * with a secret of this process: names come from strangers, who could otherwise choose them to
 * fall into one bucket. Nothing that is written depends on the order of this table.
 */
struct names {
	struct name **buckets; /* owned; the names are borrowed */
	size_t nbuckets;       /* a power of two */
	size_t n;
	uint64_t key[2];
};

int names_init(struct names *t); /* 0 or -errno; names_done() also after a failure */
void names_done(struct names *t);
uint32_t names_hash(const struct names *t, const struct node *dir, const char *s, size_t len);
/* The name, or NULL. @hash is names_hash() of the same. */
struct name *names_find(const struct names *t, uint32_t hash, const struct node *dir, const char *s,
			size_t len);
/* Adds a name that is not there yet; it must outlive the table. 0 or -ENOMEM. */
int names_add(struct names *t, struct name *name);

#endif
