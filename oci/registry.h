/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_REGISTRY_H
#define OCI_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"
#include "oci/proxies.h"
#include "oci/stream.h"

struct buf;
struct err;

/* Where a repository is and how to speak to it. Plain data (it crosses process borders). */
struct registry_at {
	char host[LIMIT_NAME]; /* with port */
	char repo[LIMIT_NAME];
	bool plain_http;           /* HTTP instead of HTTPS */
	bool insecure_tls;         /* HTTPS without checking the certificate */
	char user[LIMIT_USER];     /* "" = anonymous; AUTH_IDENTITY_USER: @secret is a token */
	char secret[LIMIT_SECRET]; /* password; wiped by registry_free() */
};

/*
 * A client of the OCI distribution API. One object serves one thread, keeps connections and
 * tokens, and may be used for any number of repositories. Blocking.
 */
struct registry;

struct registry_options {
	uint32_t connect_timeout_ms; /* default 10 000 */
	uint32_t stall_timeout_ms;   /* no byte for so long: -ETIMEDOUT; default 15 000 */
	const char *ca_pem;          /* CA bundle as PEM text, borrowed; NULL = the library's own */
	size_t ca_pem_len;
	const char *user_agent;
	struct proxies proxies; /* loopback hosts are never asked through one */
	/*
	 * Looks a name up for a process that has no files (libc's resolver reads several): writes
	 * the addresses of @host into @out, separated by commas, IPv6 in brackets; an empty @out
	 * leaves the name to libc. 0 or -errno. NULL = libc.
	 */
	int (*resolve)(void *arg, const char *host, char *out, size_t size);
	void *resolve_arg; /* borrowed */
};

int registry_new(const struct registry_options *opt, struct registry **ret, struct err *e);
struct registry *registry_free(struct registry *r);

static inline void registry_freep(struct registry **r)
{
	registry_free(*r);
}

/* Seconds the server asked to be left alone for with the last -EAGAIN (Retry-After); 0 = none. */
uint32_t registry_retry_after_s(const struct registry *r);

/*
 * GET manifests/@reference (a tag or "sha256:…") into @out, and its Content-Type (parameters
 * cut off) into @content_type. When the server sends Docker-Content-Digest it must agree with
 * the body; when @reference is a digest the body must have it.
 */
int registry_manifest(struct registry *r, const struct registry_at *at, const char *reference,
		      struct buf *out, char content_type[LIMIT_NAME], struct digest *ret_digest,
		      struct err *e);

/* GET a whole small blob (a config) into @out, at most out->max bytes, digest checked. */
int registry_blob(struct registry *r, const struct registry_at *at, const struct digest *digest,
		  struct buf *out, struct err *e);

/*
 * Opens bytes [@off, @off + @len) of a blob whose size is known to be @blob_size, as a stream to
 * pull from. With off = 0 and len = blob_size no Range is sent (the answer must then be 200 and
 * of that length); else the answer must be 206 with exactly that Content-Range: a 200, a short,
 * longer or shifted answer is refused with -EPROTO and named. Free the stream with
 * stream_free(); one stream per registry object at a time.
 *
 * Redirects are followed at most LIMIT_REDIRECTS times, without credentials once the host
 * changes. 401 starts the token flow (distribution auth/token.md) and is tried again once.
 *
 * Errors: -ENOENT 404, -EACCES 401/403, -EAGAIN 429 and 5xx (worth another try), -ETIMEDOUT,
 * -ECONNRESET and other transport errors, -EPROTO for answers that break the protocol.
 */
int registry_blob_range(struct registry *r, const struct registry_at *at,
			const struct digest *digest, uint64_t blob_size, uint64_t off, uint64_t len,
			struct stream **ret, struct err *e);

/* Where storage has the blob is asked of the registry again: what came from there was wrong. */
void registry_forget(struct registry *r, const struct registry_at *at, const struct digest *digest);

#endif
