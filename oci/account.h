/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_ACCOUNT_H
#define OCI_ACCOUNT_H

#include <stdbool.h>

#include "oci/registry.h"

struct http;
struct http_call;

/*
 * How we stand with one repository: who we are there, and the authorization that got us in last
 * (distribution auth/token.md). States of the authorization:
 *
 *	none     nothing is sent; the registry's 401 tells what it wants
 *	valid    sent along
 *	stale    a token past 80 % of its life: account_refresh() gets the next one by the last
 *	         challenge, without asking the registry
 *
 * account_answer() moves none to valid, account_forget() anything to none. Secrets are wiped.
 */
struct account;

/* A table of at most LIMIT_ACCOUNTS; the one used longest ago makes room. */
struct accounts;

struct accounts *accounts_new(void); /* NULL when out of memory */
struct accounts *accounts_free(struct accounts *t);

/*
 * The account for exactly these settings, made when there is none. Borrowed from the table, until
 * the next account_find(). *@ret_id is a number no other account of this table has or had.
 */
int account_find(struct accounts *t, const struct registry_at *at, struct account **ret,
		 uint64_t *ret_id);

/* The header's value, borrowed until the next account call, or NULL. */
const char *account_authorization(const struct account *a);

/* A stale token is replaced; when that fails, or there is no way to, it is forgotten. */
void account_refresh(struct account *a, struct http *h);

void account_forget(struct account *a);

/*
 * Takes up the challenge in the headers of @call, a 401 from the registry itself, which is freed
 * first (one call at a time) and set to NULL. On success the authorization is valid. -EACCES when
 * the registry or its token server want other credentials than we have; @what names the request.
 * Credentials go to the token server the registry names, over plain HTTP only on the registry's
 * own host.
 */
int account_answer(struct account *a, struct http *h, struct http_call **call, const char *what,
		   struct err *e);

#endif
