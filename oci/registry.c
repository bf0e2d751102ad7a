/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/registry.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/client.h"
#include "oci/http.h"
#include "oci/range.h"

#define CONNECT_TIMEOUT_MS 10000
#define STALL_TIMEOUT_MS   15000
/* Asked for at once while a small document is read. */
#define READ_STEP (64u << 10)
#define WHAT_MAX  (2 * LIMIT_NAME + 192)

/* Every type manifest.h reads. */
#define ACCEPT_MANIFESTS                                                                           \
	"application/vnd.oci.image.manifest.v1+json, "                                             \
	"application/vnd.oci.image.index.v1+json, "                                                \
	"application/vnd.docker.distribution.manifest.v2+json, "                                   \
	"application/vnd.docker.distribution.manifest.list.v2+json"

struct registry {
	struct client *client; /* owned */
};

int registry_new(const struct registry_options *opt, struct registry **ret, struct err *e)
{
	static const struct registry_options none;
	struct http_options http;
	struct registry *r;
	int rc;

	if (!opt)
		opt = &none;
	http = (struct http_options){
		.connect_timeout_ms = opt->connect_timeout_ms ?: CONNECT_TIMEOUT_MS,
		.stall_timeout_ms = opt->stall_timeout_ms ?: STALL_TIMEOUT_MS,
		.ca_pem = opt->ca_pem,
		.ca_pem_len = opt->ca_pem_len,
		.proxies = opt->proxies,
		.user_agent = opt->user_agent ?: "tarn/" TARN_VERSION,
		.resolve = opt->resolve,
		.resolve_arg = opt->resolve_arg,
	};
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_errno(e, -ENOMEM, "registry client");
	rc = client_new(&http, &r->client, e);
	if (rc < 0) {
		free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

struct registry *registry_free(struct registry *r)
{
	if (!r)
		return NULL;
	client_free(r->client);
	free(r);
	return NULL;
}

uint32_t registry_retry_after_s(const struct registry *r)
{
	return client_retry_after(r->client);
}

/* --- whole documents ------------------------------------------------------------------------- */

/* A coding would change the bytes that offsets and digests are about. */
static int check_coding(struct http_call *call, const char *what, struct err *e)
{
	const char *coding = http_call_header(call, "Content-Encoding", 0);

	if (coding && coding[0] && strcasecmp(coding, "identity") != 0)
		return err_set(e, -EPROTO,
			       "%s: the answer is encoded (%.32s), which was not asked for", what,
			       coding);
	return 0;
}

static int read_whole(struct http_call *call, const char *what, struct buf *out, struct err *e)
{
	if (http_call_length(call) > 0 && (uint64_t)http_call_length(call) > out->max)
		return err_set(e, -EFBIG, "%s: %lld bytes, more than the limit of %zu", what,
			       (long long)http_call_length(call), out->max);
	for (;;) {
		size_t room = out->max - out->len;
		ssize_t n;
		void *p;

		if (room == 0) {
			char extra;

			n = http_call_read(call, &extra, 1, e);
			return n <= 0 ? (int)n
				      : err_set(e, -EFBIG, "%s: more than the limit of %zu bytes",
						what, out->max);
		}
		if (room > READ_STEP)
			room = READ_STEP;
		p = buf_reserve(out, room);
		if (!p)
			return err_errno(e, -ENOMEM, "%s", what);
		n = http_call_read(call, p, room, e);
		if (n <= 0)
			return (int)n;
		buf_commit(out, (size_t)n);
	}
}

/* A whole answer into @out, cleared first; its status must be 200. */
static int get_whole(struct registry *r, const struct client_request *rq, struct buf *out,
		     struct http_call **ret, struct err *e)
{
	_cleanup_(http_call_freep) struct http_call *call = NULL;
	int rc;

	buf_clear(out);
	rc = client_get(r->client, rq, &call, e);
	if (rc < 0)
		return rc;
	if (http_call_status(call) != 200)
		return err_set(e, -EPROTO,
			       "%s: a part was answered (206) where the whole was asked for",
			       rq->what);
	rc = check_coding(call, rq->what, e);
	if (rc == 0)
		rc = read_whole(call, rq->what, out, e);
	if (rc < 0)
		return rc;
	*ret = take_ptr(call);
	return 0;
}

static int check_digest(const struct digest *want, const struct digest *have, const char *what,
			const char *who, struct err *e)
{
	char a[DIGEST_TEXT], b[DIGEST_TEXT];

	if (digest_equal(want, have))
		return 0;
	return err_set(e, -EPROTO, "%s: the content is %s, but %s %s", what, digest_text(have, a),
		       who, digest_text(want, b));
}

/* What Docker-Content-Digest says must hold; a digest in words we do not know is passed over
 * only when @asked has already settled what the content is. */
static int check_header_digest(struct http_call *call, const struct digest *have, bool asked,
			       const char *what, struct err *e)
{
	const char *text = http_call_header(call, "Docker-Content-Digest", 0);
	struct digest said;

	if (!text)
		return 0;
	if (digest_parse(text, &said, NULL) < 0)
		return asked ? 0
			     : err_set(e, -EPROTO,
				       "%s: Docker-Content-Digest is not a sha256 digest", what);
	return check_digest(&said, have, what, "the server calls it", e);
}

static void copy_content_type(struct http_call *call, char out[LIMIT_NAME])
{
	const char *type = http_call_header(call, "Content-Type", 0);
	size_t len = type ? strcspn(type, "; \t") : 0;

	if (len >= LIMIT_NAME)
		len = 0;
	if (len > 0)
		memcpy(out, type, len);
	out[len] = '\0';
}

int registry_manifest(struct registry *r, const struct registry_at *at, const char *reference,
		      struct buf *out, char content_type[LIMIT_NAME], struct digest *ret_digest,
		      struct err *e)
{
	_cleanup_(http_call_freep) struct http_call *call = NULL;
	char what[WHAT_MAX];
	struct client_request rq = {
		.at = at,
		.kind = "manifests",
		.reference = reference,
		.accept = ACCEPT_MANIFESTS,
		.what = what,
	};
	struct digest want, have;
	bool asked = digest_parse(reference, &want, NULL) == 0;
	int rc;

	snprintf(what, sizeof(what), "%.255s/%.255s%s%.128s", at->host, at->repo, asked ? "@" : ":",
		 reference);
	rc = get_whole(r, &rq, out, &call, e);
	if (rc < 0)
		return rc;
	rc = digest_of(out->data, out->len, &have);
	if (rc < 0)
		return err_errno(e, rc, "%s", what);
	if (asked)
		rc = check_digest(&want, &have, what, "asked for was", e);
	if (rc == 0)
		rc = check_header_digest(call, &have, asked, what, e);
	if (rc < 0)
		return rc;
	copy_content_type(call, content_type);
	*ret_digest = have;
	return 0;
}

static void blob_what(const struct registry_at *at, const char *digest, char what[WHAT_MAX])
{
	snprintf(what, WHAT_MAX, "%.255s/%.255s blob %s", at->host, at->repo, digest);
}

int registry_blob(struct registry *r, const struct registry_at *at, const struct digest *digest,
		  struct buf *out, struct err *e)
{
	_cleanup_(http_call_freep) struct http_call *call = NULL;
	char what[WHAT_MAX], text[DIGEST_TEXT];
	struct client_request rq = {
		.at = at,
		.kind = "blobs",
		.reference = digest_text(digest, text),
		.what = what,
		.remember = true,
	};
	struct digest have;
	int rc;

	blob_what(at, text, what);
	rc = get_whole(r, &rq, out, &call, e);
	if (rc < 0)
		return rc;
	rc = digest_of(out->data, out->len, &have);
	if (rc < 0)
		return err_errno(e, rc, "%s", what);
	rc = check_digest(digest, &have, what, "asked for was", e);
	if (rc < 0)
		client_forget(r->client, at, text);
	return rc;
}

/* --- ranges ---------------------------------------------------------------------------------- */

struct range_stream {
	struct stream s;
	struct http_call *call; /* owned */
	uint64_t len;
	uint64_t left;
	char what[WHAT_MAX];
};

static int too_long(const struct range_stream *s, struct err *e)
{
	return err_set(e, -EPROTO, "%s: the answer is longer than the %llu bytes asked for",
		       s->what, (unsigned long long)s->len);
}

static ssize_t range_read(struct stream *stream, void *buf, size_t n, struct err *e)
{
	struct range_stream *s = (struct range_stream *)stream;
	uint8_t extra;
	ssize_t r;

	if (n == 0)
		return 0;
	if (s->left == 0) {
		r = http_call_read(s->call, &extra, 1, e);
		return r > 0 ? too_long(s, e) : r;
	}
	if (n > s->left)
		n = (size_t)s->left;
	r = http_call_read(s->call, buf, n, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -EPROTO, "%s: the answer ends after %llu of %llu bytes", s->what,
			       (unsigned long long)(s->len - s->left), (unsigned long long)s->len);
	s->left -= (uint64_t)r;
	if (s->left == 0 && http_call_pending(s->call) > 0)
		return too_long(s, e);
	return r;
}

static void range_free(struct stream *stream)
{
	struct range_stream *s = (struct range_stream *)stream;

	http_call_free(s->call);
	free(s);
}

/* That the headers promise exactly what was asked for. */
static int check_range(struct http_call *call, const struct client_request *rq, uint64_t blob_size,
		       uint64_t len, struct err *e)
{
	const char *range = http_call_header_only(call, "Content-Range");
	int64_t length = http_call_length(call);
	int want = rq->ranged ? 206 : 200;

	if (http_call_status(call) != want)
		return err_set(e, -EPROTO, "%s: %s", rq->what,
			       rq->ranged ? "the server ignores Range and sends the whole blob"
					  : "the server sends a part of the blob unasked");
	if (rq->ranged && !content_range_is(range, rq->off, rq->len, blob_size))
		return err_set(e, -EPROTO, "%s: asked for bytes %llu-%llu/%llu, answered '%.80s'",
			       rq->what, (unsigned long long)rq->off,
			       (unsigned long long)(rq->off + rq->len - 1),
			       (unsigned long long)blob_size, range ? range : "no Content-Range");
	if (length >= 0 && (uint64_t)length != len)
		return err_set(e, -EPROTO, "%s: the answer has %lld bytes, not the %llu asked for",
			       rq->what, (long long)length, (unsigned long long)len);
	return check_coding(call, rq->what, e);
}

static int open_range(struct registry *r, const struct client_request *rq, uint64_t blob_size,
		      uint64_t len, struct stream **ret, struct err *e)
{
	_cleanup_(http_call_freep) struct http_call *call = NULL;
	struct range_stream *s;
	int rc;

	rc = client_get(r->client, rq, &call, e);
	if (rc < 0)
		return rc;
	rc = check_range(call, rq, blob_size, len, e);
	if (rc < 0) {
		client_forget(r->client, rq->at, rq->reference);
		return rc;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_errno(e, -ENOMEM, "%s", rq->what);
	s->s.read = range_read;
	s->s.free = range_free;
	s->call = take_ptr(call);
	s->len = len;
	s->left = len;
	snprintf(s->what, sizeof(s->what), "%s", rq->what);
	*ret = &s->s;
	return 0;
}

int registry_blob_range(struct registry *r, const struct registry_at *at,
			const struct digest *digest, uint64_t blob_size, uint64_t off, uint64_t len,
			struct stream **ret, struct err *e)
{
	char what[WHAT_MAX], text[DIGEST_TEXT];
	struct client_request rq = {
		.at = at,
		.kind = "blobs",
		.reference = digest_text(digest, text),
		.what = what,
		.remember = true,
		.ranged = off != 0 || len != blob_size,
		.off = off,
		.len = len,
	};
	uint64_t end;

	blob_what(at, text, what);
	if (!add_ok(off, len, &end) || end > blob_size || blob_size > INT64_MAX)
		return err_set(e, -EINVAL, "%s: bytes %llu+%llu are not inside its %llu", what,
			       (unsigned long long)off, (unsigned long long)len,
			       (unsigned long long)blob_size);
	if (len == 0)
		return stream_of_mem("", 0, ret);
	return open_range(r, &rq, blob_size, len, ret, e);
}

void registry_forget(struct registry *r, const struct registry_at *at, const struct digest *digest)
{
	char text[DIGEST_TEXT];

	client_forget(r->client, at, digest_text(digest, text));
}
