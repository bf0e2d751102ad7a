/* SPDX-License-Identifier: Apache-2.0 */

/* The index pass against a fetcher that lies: it is not trusted with anything but time. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/index/build.h"
#include "oci/stream.h"
#include "plugin/fill/flight.h"
#include "plugin/store/ingest.h"
#include "plugin/store/pass.h"
#include "tests/unit/fake_keeper.h"
#include "tests/unit/fill_fixture.h"

#define SIZE (3u << 20)

/* What the fetcher does wrong. */
static struct {
	void (*note)(struct fetch_note *n); /* to each span's message */
	void (*done)(struct fetch_note *n); /* to the last message */
	void (*results)(int toc, int map);  /* to what it found */
	uint32_t repeat;                    /* this span comes twice */
	bool flip;                          /* a bit of the content */
	uint32_t extra;                     /* bytes after the end, as one more span */
} lie;

struct oneshot {
	int (*note)(void *ctx, const struct fetch_note *n, const void *data, struct err *e);
	void *ctx;
	const struct fetch_job *job;
	uint32_t last;
};

static struct oneshot the_fetcher;
static struct blob blob;

int oneshot_new(struct engine *en, struct oneshot **ret, struct err *e)
{
	*ret = &the_fetcher;
	return 0;
}

struct oneshot *oneshot_free(struct oneshot *o)
{
	return NULL;
}

void *oneshot_slot(struct oneshot *o, uint32_t i)
{
	return NULL;
}

static int send_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct oneshot *o = ctx;
	struct fetch_note n = {.op = FETCH_SPAN, .span = span, .len = (uint32_t)len};
	_cleanup_free_ uint8_t *copy = malloc(LIMIT_SPAN_MAX + 1);
	int r;

	assert_non_null(copy);
	memset(copy, 0, LIMIT_SPAN_MAX + 1);
	memcpy(copy, data, len);
	if (lie.flip && span == 1)
		copy[17] ^= 1;
	if (lie.note)
		lie.note(&n);
	o->last = span;
	r = o->note(o->ctx, &n, copy, e);
	if (r == 0 && lie.repeat == span + 1)
		r = o->note(o->ctx, &n, copy, e);
	return r;
}

int oneshot_run(struct oneshot *o, const struct fetch_job *job, const int *fds, int nfds,
		int (*note)(void *ctx, const struct fetch_note *n, const void *data, struct err *e),
		void *ctx, struct fetch_note *final, struct err *e)
{
	struct build_input in = {.what = job->what,
				 .blob_size = job->source.blob_size,
				 .blob_digest = job->source.blob,
				 .span_size = job->span_size,
				 .span = send_span,
				 .ctx = o};
	_cleanup_(stream_freep) struct stream *s = NULL;
	struct build_result result;
	_cleanup_buf_ struct buf toc, map;
	int r;

	buf_init(&toc, LIMIT_TOC);
	buf_init(&map, LIMIT_MAP_FILE);
	o->note = note;
	o->ctx = ctx;
	o->job = job;
	assert_int_equal(stream_of_fd(blob.fd, 0, blob.bytes.len, &s), 0);
	in.blob = s;
	r = build_index(&in, &toc, &map, &result, e);
	if (r == 0 && lie.extra) {
		struct fetch_note n = {.op = FETCH_SPAN, .span = o->last + 1, .len = lie.extra};

		r = note(ctx, &n, blob.tar.data, e);
	}
	if (r < 0)
		return r;
	assert_int_equal(fd_write_full(fds[nfds - 2], toc.data, toc.len), 0);
	assert_int_equal(fd_write_full(fds[nfds - 1], map.data, map.len), 0);
	if (lie.results)
		lie.results(fds[nfds - 2], fds[nfds - 1]);
	*final = (struct fetch_note){
		.op = FETCH_DONE, .tar_size = result.tar_size, .nentries = result.nentries};
	if (lie.done)
		lie.done(final);
	return 0;
}

static int setup(void **state)
{
	fake_start();
	memset(&lie, 0, sizeof(lie));
	blob_make(&blob, CODEC_GZIP, SIZE);
	return 0;
}

static int teardown(void **state)
{
	blob_free(&blob);
	fake_stop();
	return 0;
}

static int run(struct err *e)
{
	static struct source from; /* a registry: nothing is opened */
	struct ingest in = {.en = &engine,
			    .diff_id = blob.diff_id,
			    .blob = {MEDIA_LAYER_GZIP, blob.digest, blob.bytes.len},
			    .from = &from,
			    .keep = true,
			    .what = "layer x"};

	return layer_ingest(&in, e);
}

static bool anything_left(void)
{
	char path[128], hex[DIGEST_HEX + 1];

	snprintf(path, sizeof(path), "layers/%s", digest_hex(&blob.diff_id, hex));
	return faccessat(fake.store, path, F_OK, 0) == 0;
}

static void refuse(int code)
{
	struct err e = ERR_INIT;
	int r = run(&e);

	if (r != code || !strstr(e.text, "layer x"))
		fail_msg("%d: %s", r, e.text);
	assert_false(anything_left());
}

static void the_truth(void **state)
{
	struct err e = ERR_INIT;

	if (run(&e) < 0)
		fail_msg("%s", e.text);
	assert_true(anything_left());
}

/* --- spans --- */

static void no_length(struct fetch_note *n)
{
	n->len = 0;
}

static void too_long(struct fetch_note *n)
{
	n->len = LIMIT_SPAN_MAX + 1;
}

static void too_short(struct fetch_note *n)
{
	n->len -= 512;
}

static void out_of_order(struct fetch_note *n)
{
	n->span ^= 1;
}

static void of_another_kind(struct fetch_note *n)
{
	n->op = FETCH_BYTES;
}

static void spans_that_cannot_be(void **state)
{
	static void (*const lies[])(struct fetch_note * n) = {no_length, too_long, too_short,
							      out_of_order, of_another_kind};

	for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
		lie.note = lies[i];
		refuse(-EPROTO);
	}
}

static void a_span_twice(void **state)
{
	lie.repeat = 1;
	refuse(-EPROTO);
}

static void a_span_behind_the_last(void **state)
{
	lie.extra = 512;
	refuse(-EPROTO);
}

static void other_bytes(void **state)
{
	lie.flip = true;
	refuse(-EBADMSG);
}

/* --- the end --- */

static void longer(struct fetch_note *n)
{
	n->tar_size += 512;
}

static void entries_without_end(struct fetch_note *n)
{
	n->nentries = UINT64_MAX;
}

static void one_entry_more(struct fetch_note *n)
{
	n->nentries++;
}

static void a_wrong_count(void **state)
{
	lie.done = longer;
	refuse(-EPROTO);
	lie.done = entries_without_end;
	refuse(-EPROTO);
	lie.done = one_entry_more;
	refuse(-EBADMSG);
}

static void no_toc(int toc, int map)
{
	assert_int_equal(ftruncate(toc, 0), 0);
}

static void wild_toc(int toc, int map)
{
	static const uint8_t wild[64] = {0xff, 0xff, 0xff, 0xff};

	assert_int_equal(ftruncate(toc, 0), 0);
	assert_int_equal(fd_pwrite_full(toc, wild, sizeof(wild), 0), 0);
}

static void huge_toc(int toc, int map)
{
	assert_int_equal(ftruncate(toc, (off_t)LIMIT_TOC + 1), 0);
}

static void no_map(int toc, int map)
{
	assert_int_equal(ftruncate(map, 0), 0);
}

static void wild_map(int toc, int map)
{
	assert_int_equal(fd_pwrite_full(map, "wild", 4, 100), 0);
}

static void results_that_cannot_be(void **state)
{
	lie.results = no_toc;
	refuse(-EBADMSG);
	lie.results = wild_toc;
	refuse(-EBADMSG);
	lie.results = huge_toc;
	refuse(-EFBIG);
	lie.results = no_map;
	refuse(-EBADMSG);
	lie.results = wild_map;
	refuse(-EBADMSG);
}

/* The map of another blob, sound in itself. */
static void other_map(int toc, int map)
{
	_cleanup_buf_ struct buf b;
	struct digest sum;
	uint8_t *at;

	buf_init(&b, LIMIT_MAP_FILE);
	assert_int_equal(lseek(map, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(map, &b), 0);
	at = memmem(b.data, b.len, blob.digest.sum, DIGEST_SIZE);
	assert_non_null(at);
	*at ^= 1;
	assert_int_equal(digest_of(b.data, b.len - DIGEST_SIZE, &sum), 0);
	memcpy(b.data + b.len - DIGEST_SIZE, sum.sum, DIGEST_SIZE);
	assert_int_equal(fd_pwrite_full(map, b.data, b.len, 0), 0);
}

static void a_map_of_something_else(void **state)
{
	lie.results = other_map;
	refuse(-EPROTO);
}

#define in_store(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_store(the_truth),
		in_store(spans_that_cannot_be),
		in_store(a_span_twice),
		in_store(a_span_behind_the_last),
		in_store(other_bytes),
		in_store(a_wrong_count),
		in_store(results_that_cannot_be),
		in_store(a_map_of_something_else),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
