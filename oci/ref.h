/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_REF_H
#define OCI_REF_H

#include <stdbool.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"

struct err;

enum ref_kind { REF_LAYOUT, REF_REGISTRY };

/*
 * Where an image comes from, as the command line writes it: `oci:DIR[:REF]`,
 * `docker://HOST[:PORT]/REPO[:TAG|@DIGEST]`, or a bare `HOST/REPO…`. Plain data.
 */
struct ref {
	enum ref_kind kind;
	/* REF_LAYOUT */
	char dir[LIMIT_PATH];
	/* REF_REGISTRY: API host with port ("registry-1.docker.io"), and the name ("library/x") */
	char host[LIMIT_NAME];
	char repo[LIMIT_NAME];
	/* tag, or the layout's ref name; "" when not given (registry: then "latest" was filled in
	 * unless there is a digest) */
	char tag[LIMIT_NAME];
	bool has_digest;
	struct digest digest;
	bool plain_http; /* loopback host: HTTP instead of HTTPS */
};

/* -EINVAL names the text and says what form is expected. */
int ref_parse(const char *text, struct ref *ret, struct err *e);

/* The name an image gets when none is given: "host/repo:tag", or the layout's base name[:ref]. */
void ref_default_name(const struct ref *r, char out[LIMIT_REF]);

/* 127.0.0.0/8, ::1 in brackets, localhost; with or without a port. */
bool ref_host_is_loopback(const char *host);

/* Image names and container ids as we accept them for storage: no control characters. */
bool ref_name_valid(const char *name);

#endif
