/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/resolve.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fill/wire.h"
#include "plugin/keep.h"
#include "plugin/store/layout.h"
#include "plugin/store/reader.h"

#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"

/* One image being resolved. */
struct resolver {
	struct engine *en;   /* borrowed */
	struct reader *docs; /* owned */
	struct resolved *rs; /* borrowed */
	struct platform platform;
	char what[LIMIT_NAME]; /* names the image in errors */
};

/* A document under manifests/ or blobs/, and what the transport says it is. */
struct document {
	struct buf bytes; /* owned */
	struct digest digest;
	char content_type[LIMIT_NAME];
};

struct resolved *resolved_free(struct resolved *rs)
{
	if (!rs)
		return NULL;
	buf_free(&rs->manifest_bytes);
	buf_free(&rs->config_bytes);
	explicit_bzero(&rs->at, sizeof(rs->at));
	free(rs);
	return NULL;
}

static struct fetch_job *begin(struct resolver *v, enum fetch_kind op)
{
	struct fetch_job *job = reader_begin(v->docs, op, &v->rs->at, v->what);

	job->platform = v->platform;
	return job;
}

/* --- a local layout --- */

/* The layout's entry for the wanted name. */
static int layout_find(struct resolver *v, struct descriptor *ret, struct err *e)
{
	_cleanup_buf_ struct buf index;
	struct fetch_job *job;
	int r;

	buf_init(&index, LIMIT_MANIFEST);
	if (v->rs->ref.dir[0] != '/')
		return err_set(e, -EINVAL, "oci:%.200s: the directory must be absolute",
			       v->rs->ref.dir);
	r = layout_check_version(v->en, v->rs->ref.dir, e);
	if (r < 0)
		return r;
	r = layout_read(v->en, v->rs->ref.dir, KEEP_LAYOUT_INDEX, &index, e);
	if (r < 0)
		return r;
	job = begin(v, FETCH_PARSE_LAYOUT);
	snprintf(job->reference, sizeof(job->reference), "%s", v->rs->ref.tag);
	return reader_parse(v->docs, &index, ret, sizeof(*ret), e);
}

/* --- documents by digest --- */

static int read_local(struct resolver *v, const struct descriptor *d, struct buf *out,
		      struct err *e)
{
	_cleanup_fd_ int fd = -1;
	int r;

	r = layout_blob_open(v->en, v->rs->ref.dir, &d->digest, d->size, &fd, e);
	if (r < 0)
		return r;
	r = fd_read_all(fd, out);
	return r < 0 ? err_errno(e, r, "oci:%.200s", v->rs->ref.dir) : 0;
}

/* From the registry: a manifest by @reference, or (NULL) the blob of @d. */
static int read_remote(struct resolver *v, const char *reference, const struct descriptor *d,
		       struct document *doc, struct err *e)
{
	struct fetch_job *job = begin(v, reference ? FETCH_MANIFEST : FETCH_BLOB);

	if (reference)
		snprintf(job->reference, sizeof(job->reference), "%s", reference);
	if (d) {
		job->source.blob = d->digest;
		job->source.blob_size = d->size;
	}
	return reader_run(v->docs, &doc->bytes, doc->content_type, e);
}

/* Whatever brought the bytes: they are what was asked for, or an error. */
static int check_digest(struct document *doc, const struct descriptor *want, const char *what,
			struct err *e)
{
	char text[DIGEST_TEXT], got[DIGEST_TEXT];

	if (digest_of(doc->bytes.data, doc->bytes.len, &doc->digest) < 0)
		return err_errno(e, -ENOMEM, "%s", what);
	if (!want || digest_equal(&doc->digest, &want->digest))
		return 0;
	return err_set(e, -EBADMSG, "%s: wrong digest: %s was asked for, the bytes have %s", what,
		       digest_text(&want->digest, text), digest_text(&doc->digest, got));
}

/* A manifest or index by descriptor, or (NULL) by the reference that the user gave. */
static int get_manifest(struct resolver *v, const struct descriptor *d, struct document *doc,
			struct err *e)
{
	const struct ref *ref = &v->rs->ref;
	char text[DIGEST_TEXT];
	int r;

	if (d && d->size > LIMIT_MANIFEST)
		return err_set(e, -EFBIG,
			       "%s: manifest %s is to have %" PRIu64 " bytes, more than the %u we "
			       "take",
			       v->what, digest_text(&d->digest, text), d->size, LIMIT_MANIFEST);
	if (ref->kind == REF_LAYOUT)
		r = read_local(v, d, &doc->bytes, e);
	else
		r = read_remote(v, d ? digest_text(&d->digest, text) : ref->tag, NULL, doc, e);
	return r < 0 ? r : check_digest(doc, d, v->what, e);
}

/* Follows indexes down to the image manifest. */
static int find_manifest(struct resolver *v, struct document *doc, struct manifest_doc *ret,
			 struct err *e)
{
	struct descriptor d = {.digest = v->rs->ref.digest};
	bool by_digest = v->rs->ref.has_digest;
	struct fetch_job *job;
	int r = 0;

	if (v->rs->ref.kind == REF_LAYOUT) {
		r = layout_find(v, &d, e);
		by_digest = true;
	}
	for (int depth = 0; r == 0 && depth <= LIMIT_INDEX_NESTING; depth++) {
		buf_clear(&doc->bytes);
		r = get_manifest(v, by_digest ? &d : NULL, doc, e);
		if (r < 0)
			return r;
		job = begin(v, FETCH_PARSE_MANIFEST);
		memcpy(job->content_type, doc->content_type, sizeof(doc->content_type));
		r = reader_parse(v->docs, &doc->bytes, ret, sizeof(*ret), e);
		if (r < 0 || ret->media == MEDIA_MANIFEST)
			return r;
		if (ret->media != MEDIA_INDEX)
			return err_set(e, -EPROTO, "%s: the fetcher broke the protocol", v->what);
		d = ret->chosen;
		by_digest = true;
	}
	return r < 0 ? r
		     : err_set(e, -ELOOP, "%s: more than %d indexes inside each other", v->what,
			       LIMIT_INDEX_NESTING);
}

/* --- what came out of the fetcher --- */

static bool is_layer(enum media m)
{
	return m == MEDIA_LAYER_TAR || m == MEDIA_LAYER_GZIP || m == MEDIA_LAYER_ZSTD;
}

static int check_manifest(const struct manifest *m, const char *what, struct err *e)
{
	if (m->nlayers > LIMIT_LAYERS || m->config.size > LIMIT_CONFIG)
		return err_set(e, -EPROTO, "%s: the manifest breaks a limit", what);
	if (m->nlayers == 0)
		return err_set(e, -EINVAL, "%s: has no layers, so there is nothing to run", what);
	for (uint32_t i = 0; i < m->nlayers; i++) {
		if (!is_layer(m->layers[i].media))
			return err_set(e, -EINVAL, "%s: layer %u is of a type we do not read", what,
				       i + 1);
		if (m->layers[i].size == 0 || m->layers[i].size > LIMIT_TAR_SIZE)
			return err_set(e, -EINVAL,
				       "%s: layer %u is to have %" PRIu64 " bytes, which none can",
				       what, i + 1, m->layers[i].size);
	}
	return 0;
}

static int find_config(struct resolver *v, struct document *doc, struct err *e)
{
	const struct descriptor *d = &v->rs->manifest.config;
	struct diff_ids *ids = &v->rs->diff_ids;
	int r;

	if (v->rs->ref.kind == REF_LAYOUT)
		r = read_local(v, d, &doc->bytes, e);
	else
		r = read_remote(v, NULL, d, doc, e);
	if (r == 0)
		r = check_digest(doc, d, v->what, e);
	if (r < 0)
		return err_wrap(e, r, "config");
	begin(v, FETCH_PARSE_CONFIG);
	r = reader_parse(v->docs, &doc->bytes, ids, sizeof(*ids), e);
	if (r < 0)
		return r;
	if (ids->n > LIMIT_LAYERS || ids->n != v->rs->manifest.nlayers)
		return err_set(e, -EINVAL, "%s: the manifest has %u layers, the config %u", v->what,
			       v->rs->manifest.nlayers, ids->n);
	return 0;
}

/* --- all of it --- */

static int run(struct resolver *v, struct manifest_doc *doc, struct document *manifest,
	       struct document *config, struct err *e)
{
	struct resolved *rs = v->rs;
	int r;

	r = reader_new(v->en, &v->docs, e);
	if (r == 0)
		r = find_manifest(v, manifest, doc, e);
	if (r == 0)
		r = check_manifest(&doc->manifest, v->what, e);
	if (r < 0)
		return r;
	rs->manifest = doc->manifest;
	rs->manifest.config.media = MEDIA_CONFIG;
	rs->digest = manifest->digest;
	/* The word is looked for, not parsed: it only goes back out, in index.json. */
	rs->docker = memmem(manifest->bytes.data, manifest->bytes.len, DOCKER_MANIFEST,
			    strlen(DOCKER_MANIFEST)) != NULL;
	return find_config(v, config, e);
}

/* One try, with one way to speak to the registry. */
static int resolve_with(struct engine *en, const struct pull_request *rq, struct resolved *rs,
			struct err *e)
{
	_cleanup_free_ struct manifest_doc *doc = calloc(1, sizeof(*doc));
	_cleanup_free_ struct document *docs = calloc(2, sizeof(*docs));
	struct resolver v = {.en = en, .rs = rs, .platform = rq->platform};
	int r;

	if (!doc || !docs)
		return err_errno(e, -ENOMEM, "%.200s", rq->src);
	buf_init(&docs[0].bytes, LIMIT_MANIFEST);
	buf_init(&docs[1].bytes, LIMIT_CONFIG);
	snprintf(v.what, sizeof(v.what), "%.200s", rq->src);
	r = run(&v, doc, &docs[0], &docs[1], e);
	reader_free(v.docs);
	buf_free(&rs->manifest_bytes);
	buf_free(&rs->config_bytes);
	rs->manifest_bytes = docs[0].bytes;
	rs->config_bytes = docs[1].bytes;
	return r;
}

static int set_registry(const struct pull_request *rq, struct resolved *rs, struct err *e)
{
	struct registry_at *at = &rs->at;
	const char *user = rq->user ? rq->user : "", *secret = rq->secret ? rq->secret : "";

	if (rs->ref.kind != REF_REGISTRY)
		return 0;
	if (strlen(user) >= sizeof(at->user) || strlen(secret) >= sizeof(at->secret))
		return err_set(e, -E2BIG,
			       "%.200s: the user name has more than %d bytes, or the password more "
			       "than %d",
			       rq->src, LIMIT_USER - 1, LIMIT_SECRET - 1);
	memcpy(at->host, rs->ref.host, sizeof(at->host));
	memcpy(at->repo, rs->ref.repo, sizeof(at->repo));
	at->plain_http = rs->ref.plain_http;
	at->insecure_tls = !rq->tls_verify;
	snprintf(at->user, sizeof(at->user), "%s", user);
	snprintf(at->secret, sizeof(at->secret), "%s", secret);
	return 0;
}

/* Its certificate is not to be looked at, so its having none does not matter. */
static bool may_be_plain(const struct pull_request *rq, const struct resolved *rs)
{
	return rs->ref.kind == REF_REGISTRY && !rs->at.plain_http && !rq->tls_verify;
}

/* The registry was reached and said no: asking it by plain HTTP would be told the same. */
static bool final_answer(int r)
{
	return r == -ENOENT || r == -EACCES || r == -ENOMEM || r == -EBADMSG || r == -EINVAL;
}

int resolve_image(struct engine *en, const struct pull_request *rq, struct resolved **ret,
		  struct err *e)
{
	_cleanup_(resolved_freep) struct resolved *rs = calloc(1, sizeof(*rs));
	struct err why = ERR_INIT;
	int r;

	if (!rs)
		return err_errno(e, -ENOMEM, "%.200s", rq->src);
	r = ref_parse(rq->src, &rs->ref, e);
	if (r == 0)
		r = set_registry(rq, rs, e);
	if (r < 0)
		return r;
	r = resolve_with(en, rq, rs, &why);
	if (r < 0 && may_be_plain(rq, rs) && !final_answer(r)) {
		struct err other = ERR_INIT;
		int again;

		rs->at.plain_http = true;
		again = resolve_with(en, rq, rs, &other);
		if (again == 0 || final_answer(again))
			r = again, why = other;
	}
	if (r < 0)
		return err_take(e, r, why.text, &why.links);
	*ret = take_ptr(rs);
	return 0;
}
