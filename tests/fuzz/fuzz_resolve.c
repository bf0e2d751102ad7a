/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define assert_true(x)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_false(x)        assert_true(!(x))
#define assert_non_null(x)     assert_true((x) != NULL)

#include "oci/base/bytes.h"
#include "oci/erofs/image.h"
#include "oci/index/build.h"
#include "oci/stream.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/store/pass.h"
#include "plugin/store/resolve.h"
#include "tests/unit/erofs_check.h"
#include "tests/unit/fake_space.h"
#include "tests/unit/fill_fixture.h"

/*
 * The results of jobs, by a fetcher that lies about all of them. Input: what is done, then an
 * answer for each job: flags, the length of what follows (u16), and that: a document, or offset
 * (u16) and bytes that are changed in the true answer.
 */
enum { ASK_TAG, ASK_DIGEST, ASK_LAYOUT, ASK_PASS, ASK_KNOWN };

#define LIE_OP     1  /* a span for a document, or a document for a span */
#define LIE_TWICE  2  /* another answer after it */
#define LIE_SILENT 4  /* none at all */
#define LIE_FAIL   8  /* the job fails */
#define LIE_SHORT  16 /* a byte of it is missing */
#define LIE_INDEX  32 /* a manifest is an index; a map or a table is longer */

#define SPAN     (1u << 20) /* index_span_size() of a small blob */
#define DOCUMENT "{}"
#define CONFIG   "{ }"

struct oneshot {
	uint8_t *slot;
};

struct answer {
	unsigned lie;
	const uint8_t *p;
	size_t len;
};

static struct bytes input;
static struct oneshot fetcher;
static struct blob blob;
static struct buf toc, map;
static struct build_result result;
static struct digest span_digests[8];
static unsigned jobs;

/* --- the keeper --- */

static int of_memory(const char *text)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e)
{
	static const char *const text[] = {"{\"imageLayoutVersion\":\"1.0.0\"}", "{}"};
	struct digest config;

	assert_int_equal(req->op, KEEP_LAYOUT_OPEN);
	assert_int_equal(digest_of(CONFIG, strlen(CONFIG), &config), 0);
	if (req->layout.which != KEEP_LAYOUT_BLOB)
		fds[0] = of_memory(text[req->layout.which]);
	else
		fds[0] = of_memory(digest_equal(&req->layout.digest, &config) ? CONFIG : DOCUMENT);
	return 0;
}

/* --- true answers --- */

static struct descriptor describe(enum media media, const char *text)
{
	struct descriptor d = {.media = media, .size = strlen(text)};

	assert_int_equal(digest_of(text, strlen(text), &d.digest), 0);
	return d;
}

static void true_manifest(bool index, struct manifest_doc *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->media = index ? MEDIA_INDEX : MEDIA_MANIFEST;
	ret->chosen = describe(MEDIA_MANIFEST, DOCUMENT);
	ret->manifest.config = describe(MEDIA_CONFIG, CONFIG);
	ret->manifest.nlayers = 2;
	ret->manifest.layers[0] = describe(MEDIA_LAYER_GZIP, "one");
	ret->manifest.layers[1] = describe(MEDIA_LAYER_ZSTD, "two");
}

/* The true answer to @job; returns its length. */
static size_t true_answer(const struct fetch_job *job, bool index, uint8_t *out)
{
	struct descriptor d = describe(MEDIA_MANIFEST, DOCUMENT);
	const char *text = job->op == FETCH_BLOB ? CONFIG : DOCUMENT;
	static struct manifest_doc doc;
	static struct diff_ids ids;

	switch (job->op) {
	case FETCH_PARSE_LAYOUT:
		memcpy(out, &d, sizeof(d));
		return sizeof(d);
	case FETCH_PARSE_MANIFEST:
		true_manifest(index, &doc);
		memcpy(out, &doc, sizeof(doc));
		return sizeof(doc);
	case FETCH_PARSE_CONFIG:
		ids = (struct diff_ids){.n = 2};
		memcpy(out, &ids, sizeof(ids));
		return sizeof(ids);
	default:
		memcpy(out, text, strlen(text));
		return strlen(text);
	}
}

/* --- the fetcher --- */

static struct answer next_answer(void)
{
	struct answer a = {.lie = bytes_u8(&input)};
	size_t len = (size_t)bytes_le(&input, 2);

	a.len = len < input.left ? len : input.left;
	a.p = bytes_take(&input, a.len);
	return a;
}

static void change(const struct answer *a, uint8_t *p, size_t len)
{
	struct bytes b = bytes_of(a->p, a->len);
	size_t at = (size_t)bytes_le(&b, 2);

	for (; bytes_ok(&b) && b.left > 0 && at < len; at++)
		p[at] ^= bytes_u8(&b);
}

int oneshot_new(struct engine *en, struct oneshot **ret, struct err *e)
{
	if (!fetcher.slot)
		fetcher.slot = malloc(LIMIT_SPAN_MAX);
	assert_non_null(fetcher.slot);
	*ret = &fetcher;
	return 0;
}

struct oneshot *oneshot_free(struct oneshot *o)
{
	return NULL;
}

void *oneshot_slot(struct oneshot *o, uint32_t i)
{
	return o->slot;
}

typedef int (*note_fn)(void *ctx, const struct fetch_note *n, const void *data, struct err *e);

static int answer_document(const struct fetch_job *job, const struct answer *a, note_fn note,
			   void *ctx, struct err *e)
{
	struct fetch_note n = {.op = a->lie & LIE_OP ? FETCH_SPAN : FETCH_BYTES};
	bool text = job->op == FETCH_MANIFEST || job->op == FETCH_BLOB;
	static uint8_t out[64u << 10];
	int r = 0;

	memset(n.content_type, 'x', sizeof(n.content_type));
	n.len = (uint32_t)true_answer(job, a->lie & LIE_INDEX, out);
	if (text && a->len > 0) {
		memcpy(out, a->p, a->len < sizeof(out) ? a->len : sizeof(out));
		n.len = (uint32_t)(a->len < sizeof(out) ? a->len : sizeof(out));
	} else if (a->len > 0) {
		change(a, out, n.len);
	}
	n.len -= a->lie & LIE_SHORT && n.len ? 1 : 0;
	for (int i = a->lie & LIE_TWICE ? 2 : 1; r == 0 && i > 0; i--)
		r = note(ctx, &n, out, e);
	return r;
}

static int answer_spans(const struct fetch_job *job, const struct answer *a, note_fn note,
			void *ctx, struct err *e)
{
	struct fetch_note n = {.op = a->lie & LIE_OP ? FETCH_BYTES : FETCH_SPAN};
	_cleanup_free_ uint8_t *copy = malloc(blob.tar.len);
	int r = 0;

	assert_non_null(copy);
	memcpy(copy, blob.tar.data, blob.tar.len);
	change(a, copy, blob.tar.len);
	for (uint64_t at = 0; r == 0 && at < blob.tar.len; at += job->span_size) {
		uint64_t left = blob.tar.len - at;

		n.len = (uint32_t)(left < job->span_size ? left : job->span_size);
		n.len -= a->lie & LIE_SHORT ? 1 : 0;
		for (int i = a->lie & LIE_TWICE ? 2 : 1; r == 0 && i > 0; i--)
			r = note(ctx, &n, copy + at, e);
		n.span++;
	}
	return r;
}

/* A table of contents or a map, as the file that the engine reads. */
static void answer_file(int fd, const struct buf *b)
{
	struct answer a = next_answer();
	_cleanup_free_ uint8_t *copy = malloc(b->len + 1);
	size_t len = b->len;

	assert_non_null(copy);
	memcpy(copy, b->data, b->len);
	copy[len] = 0;
	if (a.len > 0)
		change(&a, copy, len);
	if (a.lie & LIE_SILENT)
		len = 0;
	len -= a.lie & LIE_SHORT && len ? 1 : 0;
	len += a.lie & LIE_INDEX ? 1 : 0;
	assert_int_equal(fd_write_full(fd, copy, len), 0);
}

int oneshot_run(struct oneshot *o, const struct fetch_job *job, const int *fds, int nfds,
		note_fn note, void *ctx, struct fetch_note *final, struct err *e)
{
	struct answer a = next_answer();
	struct fetch_note done = {
		.op = FETCH_DONE, .tar_size = result.tar_size, .nentries = result.nentries};
	int r = 0;

	if (++jobs > 16)
		abort();
	if (job->op == FETCH_INDEX) {
		r = a.lie & LIE_SILENT ? 0 : answer_spans(job, &a, note, ctx, e);
		answer_file(fds[nfds - 2], &toc);
		answer_file(fds[nfds - 1], &map);
		a = next_answer();
		change(&a, (uint8_t *)&done, sizeof(done));
	} else if (!(a.lie & LIE_SILENT)) {
		r = answer_document(job, &a, note, ctx, e);
	}
	if (r < 0)
		return r;
	if (a.lie & LIE_FAIL)
		return err_set(e, -EIO, "the fetcher says so");
	if (final)
		*final = done;
	return 0;
}

/* --- what is done --- */

static void failed(int r, const struct err *e)
{
	if (r > 0 || e->code != r || !*e->text || strchr(e->text, '\n'))
		abort();
}

/* Every field is checked, and the documents are those of the digests. */
static void check_resolved(const struct resolved *rs)
{
	const struct manifest *m = &rs->manifest;
	struct digest d;

	if (m->nlayers == 0 || m->nlayers > LIMIT_LAYERS || rs->diff_ids.n != m->nlayers ||
	    m->config.size > LIMIT_CONFIG || m->config.media != MEDIA_CONFIG)
		abort();
	for (uint32_t i = 0; i < m->nlayers; i++)
		if (m->layers[i].media < MEDIA_LAYER_TAR || m->layers[i].media > MEDIA_LAYER_ZSTD ||
		    m->layers[i].size == 0 || m->layers[i].size > LIMIT_TAR_SIZE)
			abort();
	if (digest_of(rs->manifest_bytes.data, rs->manifest_bytes.len, &d) < 0 ||
	    !digest_equal(&d, &rs->digest) ||
	    digest_of(rs->config_bytes.data, rs->config_bytes.len, &d) < 0 ||
	    !digest_equal(&d, &m->config.digest))
		abort();
}

static void resolve(struct engine *en, unsigned what)
{
	char text[DIGEST_TEXT], src[256] = "registry.example/a:v1";
	struct pull_request rq = {.src = src, .tls_verify = true};
	_cleanup_(resolved_freep) struct resolved *rs = NULL;
	struct descriptor d = describe(MEDIA_MANIFEST, DOCUMENT);
	struct err e = ERR_INIT;
	int r;

	if (what == ASK_DIGEST)
		snprintf(src, sizeof(src), "registry.example/a@%s", digest_text(&d.digest, text));
	else if (what == ASK_LAYOUT)
		snprintf(src, sizeof(src), "oci:/images/test:v1");
	r = resolve_image(en, &rq, &rs, &e);
	if (r < 0)
		failed(r, &e);
	else
		check_resolved(rs);
	if (r == 0 && what == ASK_DIGEST && !digest_equal(&rs->digest, &d.digest))
		abort();
}

/* The tar is the right one; what it is said to hold makes an image that is sound, or none. */
static void check_pass(const struct pass *p)
{
	_cleanup_fd_ int fd = memfd_create("image", MFD_CLOEXEC);
	_cleanup_buf_ struct buf image = {.max = SIZE_MAX};
	struct index ix = pass_index(p);

	if (p->tar_size != blob.tar.len || p->nspans != result.nspans || fd < 0)
		abort();
	if (memcmp(p->digests.data, span_digests, p->nspans * sizeof(span_digests[0])) != 0)
		abort();
	if (erofs_image_write(&ix, "input", fd, NULL) < 0)
		return;
	if (fd_read_all(fd, &image) < 0 || erofs_check(image.data, image.len, ix.tar_size))
		abort();
}

static void run_pass(struct engine *en, bool known)
{
	struct source from = {.local = false};
	struct index ix = {.tar_size = result.tar_size,
			   .span_size = SPAN,
			   .nspans = result.nspans,
			   .digests = span_digests};
	struct ingest in = {.en = en, .diff_id = blob.diff_id, .from = &from, .what = "layer"};
	_cleanup_(pass_done) struct pass p = {.in = &in, .fd_tar = -1, .known = known ? &ix : NULL};
	struct err e = ERR_INIT;
	int r;

	in.blob = (struct descriptor){.digest = blob.digest, .size = blob.bytes.len};
	r = pass_run(&p, &e);
	if (r < 0)
		failed(r, &e);
	else
		check_pass(&p);
}

static int digest_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	return digest_of(data, len, &span_digests[span]);
}

static void once(struct engine *en)
{
	static const int quiet = -1;
	struct build_input in = {.what = "test", .span_size = SPAN, .span = digest_span};
	_cleanup_(stream_freep) struct stream *s = NULL;

	if (en->slots)
		return;
	log_follow(&quiet);
	en->slots = calloc(1, sizeof(*en->slots));
	assert_non_null(en->slots);
	settings_default(&en->slots->settings);
	blob_make(&blob, CODEC_GZIP, SPAN + 777);
	buf_init(&toc, 1u << 20);
	buf_init(&map, 4u << 20);
	assert_int_equal(stream_of_mem(blob.bytes.data, blob.bytes.len, &s), 0);
	in.blob = s;
	in.blob_size = blob.bytes.len;
	in.blob_digest = blob.digest;
	assert_int_equal(build_index(&in, &toc, &map, &result, NULL), 0);
	assert_int_equal(index_span_size(blob.bytes.len), SPAN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct engine en;
	unsigned what;

	once(&en);
	jobs = 0;
	input = bytes_of(data, size);
	what = bytes_u8(&input) % (ASK_KNOWN + 1u);
	if (what < ASK_PASS)
		resolve(&en, what);
	else
		run_pass(&en, what == ASK_KNOWN);
	return 0;
}
