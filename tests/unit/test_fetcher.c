/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "oci/index/blobmap.h"
#include "plugin/keep.h"
#include "tests/unit/fill_fixture.h"

struct fetcher {
	pid_t pid;
	int sock, buffer;
	uint8_t *slots;
	uint32_t last_id;
};

static int start(void **state)
{
	static struct fetcher f;

	f.pid = fetcher_start(&f.sock, &f.buffer);
	f.slots = mmap(NULL, FETCH_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.buffer, 0);
	assert_true(f.slots != MAP_FAILED);
	*state = &f;
	return 0;
}

/* Every fetcher ends by itself, and well, when its socket closes. */
static int stop(void **state)
{
	struct fetcher *f = *state;
	int status;

	if (f->sock >= 0)
		close(f->sock);
	close(f->buffer);
	munmap(f->slots, FETCH_BUFFER_SIZE);
	for (int i = 0; i < 500; i++) {
		pid_t r = waitpid(f->pid, &status, WNOHANG);

		if (r == f->pid)
			return status;
		usleep(10000);
	}
	kill(f->pid, SIGKILL);
	waitpid(f->pid, &status, 0);
	return -1;
}

static void send_job(struct fetcher *f, struct fetch_job *job, const int *fds, int nfds)
{
	job->id = ++f->last_id;
	snprintf(job->what, sizeof(job->what), "layer of the test");
	assert_int_equal(keep_sendmsg(f->sock, job, sizeof(*job), fds, nfds), 0);
}

static void ack(struct fetcher *f, uint32_t slot)
{
	struct fetch_ack a = {.op = FETCH_ACK, .slot = slot};

	assert_int_equal(keep_sendmsg(f->sock, &a, sizeof(a), NULL, 0), 0);
}

/* False when nothing comes for a while. */
static bool hear(struct fetcher *f, struct fetch_note *n, int ms)
{
	struct pollfd p = {.fd = f->sock, .events = POLLIN};

	if (poll(&p, 1, ms) == 0)
		return false;
	assert_int_equal(recv(f->sock, n, sizeof(*n), 0), sizeof(*n));
	assert_int_equal(n->id, f->last_id);
	return true;
}

static void hear_op(struct fetcher *f, struct fetch_note *n, enum fetch_kind op)
{
	assert_true(hear(f, n, 20000));
	if (n->op == FETCH_FAIL && op != FETCH_FAIL)
		print_error("%s\n", n->text);
	assert_int_equal(n->op, op);
}

static struct fetch_job *blob_job(enum fetch_kind op, const struct blob *b)
{
	static struct fetch_job job;

	memset(&job, 0, sizeof(job));
	job.op = op;
	job.source.local = 1;
	job.source.blob = b->digest;
	job.source.blob_size = b->bytes.len;
	job.span_size = FIXTURE_SPAN;
	job.tar_size = b->tar.len;
	return &job;
}

/* Takes spans [first, first + n) and the end, and compares each with the tar. */
static void hear_spans(struct fetcher *f, const struct blob *b, uint32_t first, uint32_t n,
		       struct fetch_note *ret_done)
{
	struct fetch_note note;

	for (uint32_t i = first; i < first + n; i++) {
		size_t off = (size_t)i * FIXTURE_SPAN, left = b->tar.len - off;

		hear_op(f, &note, FETCH_SPAN);
		assert_int_equal(note.span, i);
		assert_int_equal(note.len, left < FIXTURE_SPAN ? left : FIXTURE_SPAN);
		assert_in_range(note.slot, 0, FETCH_SLOTS - 1);
		assert_memory_equal(f->slots + note.slot * (size_t)LIMIT_SPAN_MAX,
				    b->tar.data + off, note.len);
		ack(f, note.slot);
	}
	hear_op(f, ret_done, FETCH_DONE);
}

static void read_result(int fd, struct buf *out)
{
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(fd_read_all(fd, out), 0);
	close(fd);
}

/* Indexes the blob over the wire; the map is decoded from @bytes. */
static struct blobmap *index_blob(struct fetcher *f, const struct blob *b, struct buf *bytes)
{
	uint32_t nspans = (uint32_t)((b->tar.len + FIXTURE_SPAN - 1) / FIXTURE_SPAN);
	int fds[3] = {b->fd, memfd_create("toc", 0), memfd_create("map", 0)};
	_cleanup_buf_ struct buf toc;
	struct fetch_note done;
	struct blobmap *map;

	buf_init(&toc, 1u << 20);
	buf_init(bytes, 4u << 20);
	send_job(f, blob_job(FETCH_INDEX, b), fds, 3);
	hear_spans(f, b, 0, nspans, &done);
	assert_int_equal(done.tar_size, b->tar.len);
	assert_int_equal(done.nentries, 1);
	assert_int_equal(done.received, b->bytes.len);
	read_result(fds[1], &toc);
	assert_true(toc.len > 0);
	read_result(fds[2], bytes);
	assert_int_equal(blobmap_decode(bytes->data, bytes->len, "map", &map, NULL), 0);
	assert_int_equal(blobmap_nspans(map), nspans);
	assert_true(digest_equal(blobmap_digest(map), &b->digest));
	return map;
}

static struct fetch_job *spans_job(const struct blob *b, const struct blobmap *m, uint32_t first,
				   uint32_t n)
{
	struct fetch_job *job = blob_job(FETCH_SPANS, b);
	struct blobmap_span last = blobmap_span(m, first + n - 1);
	uint32_t point = blobmap_span(m, first).point;

	job->codec = blobmap_codec(m);
	job->first_span = first;
	job->nspans = n;
	job->in_start = blobmap_point_in(m, point);
	job->in_end = last.in_end;
	assert_int_equal(blobmap_checkpoint(m, point, &job->from), 0);
	return job;
}

static void every_span(struct fetcher *f, enum codec_kind codec, size_t size)
{
	struct blob b;
	struct buf bytes;
	struct blobmap *m;
	struct fetch_note done;
	uint32_t n;

	blob_make(&b, codec, size);
	m = index_blob(f, &b, &bytes);
	n = blobmap_nspans(m);
	assert_int_equal(blobmap_codec(m), codec);
	for (uint32_t i = 0; i < n; i += i ? 5 : 1) {
		send_job(f, spans_job(&b, m, i, 1), &b.fd, 1);
		hear_spans(f, &b, i, 1, &done);
	}
	send_job(f, spans_job(&b, m, n / 2, n - n / 2), &b.fd, 1);
	hear_spans(f, &b, n / 2, n - n / 2, &done);
	assert_true(done.received > 0 && done.received <= b.bytes.len);
	blobmap_free(m);
	buf_free(&bytes);
	blob_free(&b);
}

static void gzip_spans_are_the_tar(void **state)
{
	every_span(*state, CODEC_GZIP, 3000001);
}

static void zstd_spans_are_the_tar(void **state)
{
	every_span(*state, CODEC_ZSTD, 1500001);
}

static void raw_spans_are_the_tar(void **state)
{
	every_span(*state, CODEC_RAW, 1200001);
}

static void a_lent_slot_is_not_written(void **state)
{
	struct fetcher *f = *state;
	struct blob b;
	struct buf bytes;
	struct blobmap *m;
	struct fetch_note note, held[FETCH_SLOTS];
	uint32_t lent = 0;

	blob_make(&b, CODEC_GZIP, 12 * FIXTURE_SPAN);
	m = index_blob(f, &b, &bytes);
	send_job(f, spans_job(&b, m, 0, 8), &b.fd, 1);
	for (uint32_t i = 0; i < FETCH_SLOTS; i++) {
		hear_op(f, &held[i], FETCH_SPAN);
		lent |= 1u << held[i].slot;
	}
	assert_int_equal(lent, (1u << FETCH_SLOTS) - 1);
	assert_false(hear(f, &note, 200));
	for (uint32_t i = 0; i < FETCH_SLOTS; i++)
		assert_memory_equal(f->slots + held[i].slot * (size_t)LIMIT_SPAN_MAX,
				    b.tar.data + i * FIXTURE_SPAN, FIXTURE_SPAN);
	ack(f, held[2].slot);
	hear_op(f, &note, FETCH_SPAN);
	assert_int_equal(note.slot, held[2].slot);
	assert_int_equal(note.span, FETCH_SLOTS);
	assert_false(hear(f, &note, 200));
	blobmap_free(m);
	buf_free(&bytes);
	blob_free(&b);
}

static void what_cannot_be_decoded_fails_and_it_serves_on(void **state)
{
	struct fetcher *f = *state;
	struct blob b;
	struct buf bytes;
	struct blobmap *m;
	struct fetch_note note;
	struct fetch_job *job;
	uint8_t bad[4096];

	blob_make(&b, CODEC_GZIP, 4 * FIXTURE_SPAN);
	m = index_blob(f, &b, &bytes);
	memset(bad, 0xff, sizeof(bad));
	assert_int_equal(fd_pwrite_full(b.fd, bad, sizeof(bad), 0), 0);
	send_job(f, spans_job(&b, m, 0, 1), &b.fd, 1);
	hear_op(f, &note, FETCH_FAIL);
	assert_int_equal(note.code, -EBADMSG);
	assert_non_null(strstr(note.text, "layer of the test"));
	assert_int_equal(fd_pwrite_full(b.fd, b.bytes.data, sizeof(bad), 0), 0);
	assert_int_equal(ftruncate(b.fd, 5000), 0);
	send_job(f, spans_job(&b, m, 3, 1), &b.fd, 1);
	hear_op(f, &note, FETCH_FAIL);
	assert_int_equal(note.code, -ENODATA);
	job = spans_job(&b, m, 0, 1);
	job->first_span = 1000;
	send_job(f, job, &b.fd, 1);
	hear_op(f, &note, FETCH_FAIL);
	assert_int_equal(note.code, -EINVAL);
	send_job(f, spans_job(&b, m, 0, 1), NULL, 0);
	hear_op(f, &note, FETCH_FAIL);
	assert_int_equal(note.code, -EINVAL);
	assert_int_equal(fd_pwrite_full(b.fd, b.bytes.data, b.bytes.len, 0), 0);
	send_job(f, spans_job(&b, m, 0, 4), &b.fd, 1);
	hear_spans(f, &b, 0, 4, &note);
	blobmap_free(m);
	buf_free(&bytes);
	blob_free(&b);
}

static void a_registry_that_is_not_there_fails(void **state)
{
	struct fetcher *f = *state;
	static struct fetch_job job;
	struct fetch_note note;

	memset(&job, 0, sizeof(job));
	job.op = FETCH_MANIFEST;
	job.connect_timeout_ms = job.stall_timeout_ms = 5000;
	job.source.at.plain_http = true;
	snprintf(job.source.at.host, sizeof(job.source.at.host), "127.0.0.1:1");
	snprintf(job.source.at.repo, sizeof(job.source.at.repo), "library/none");
	snprintf(job.reference, sizeof(job.reference), "latest");
	send_job(f, &job, NULL, 0);
	hear_op(f, &note, FETCH_FAIL);
	assert_true(note.code < 0);
	assert_non_null(strstr(note.text, "127.0.0.1:1"));
	job.op = 77;
	send_job(f, &job, NULL, 0);
	hear_op(f, &note, FETCH_FAIL);
	assert_int_equal(note.code, -EINVAL);
}

static void a_config_is_parsed_into_its_diff_ids(void **state)
{
	static const char text[] =
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
		"\"diff_ids\":[\"sha256:0123456789abcdef0123456789abcdef0123456789abcdef"
		"0123456789abcdef\"]}}";
	struct fetcher *f = *state;
	static struct fetch_job job;
	struct fetch_note note;
	const struct diff_ids *ids;

	memset(&job, 0, sizeof(job));
	job.op = FETCH_PARSE_CONFIG;
	job.len = sizeof(text) - 1;
	memcpy(f->slots, text, job.len);
	send_job(f, &job, NULL, 0);
	hear_op(f, &note, FETCH_BYTES);
	assert_int_equal(note.slot, 1);
	assert_int_equal(note.len, sizeof(*ids));
	ids = (const void *)(f->slots + LIMIT_SPAN_MAX);
	assert_int_equal(ids->n, 1);
	assert_int_equal(ids->id[0].sum[0], 0x01);
	assert_int_equal(ids->id[0].sum[31], 0xef);
	ack(f, 1);
	hear_op(f, &note, FETCH_DONE);
	f->slots[0] = '[';
	send_job(f, &job, NULL, 0);
	hear_op(f, &note, FETCH_FAIL);
	assert_int_equal(note.code, -EINVAL);
}

static void a_manifest_is_parsed(void **state)
{
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	static const char text[] =
		"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
		"\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\","
		"\"digest\":\"sha256:" HEX "\",\"size\":7},\"layers\":[{\"mediaType\":"
		"\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:" HEX "\","
		"\"size\":1234}]}";
	struct fetcher *f = *state;
	static struct fetch_job job;
	struct fetch_note note;
	const struct manifest_doc *doc;

	memset(&job, 0, sizeof(job));
	job.op = FETCH_PARSE_MANIFEST;
	job.len = sizeof(text) - 1;
	memcpy(f->slots, text, job.len);
	send_job(f, &job, NULL, 0);
	hear_op(f, &note, FETCH_BYTES);
	assert_int_equal(note.len, sizeof(*doc));
	doc = (const void *)(f->slots + note.slot * (size_t)LIMIT_SPAN_MAX);
	assert_int_equal(doc->media, MEDIA_MANIFEST);
	assert_int_equal(doc->manifest.nlayers, 1);
	assert_int_equal(doc->manifest.layers[0].size, 1234);
	ack(f, note.slot);
	hear_op(f, &note, FETCH_DONE);
}

static void it_ends_at_nonsense_and_while_it_waits(void **state)
{
	struct fetcher *f = *state;
	struct blob b;
	struct buf bytes;
	struct blobmap *m;
	struct fetch_note note;
	char c;

	blob_make(&b, CODEC_GZIP, 12 * FIXTURE_SPAN);
	m = index_blob(f, &b, &bytes);
	send_job(f, spans_job(&b, m, 0, 8), &b.fd, 1);
	hear_op(f, &note, FETCH_SPAN);
	assert_int_equal(keep_sendmsg(f->sock, "x", 1, NULL, 0), 0);
	while (recv(f->sock, &note, sizeof(note), 0) > 0)
		;
	assert_true(recv(f->sock, &c, 1, 0) <= 0);
	blobmap_free(m);
	buf_free(&bytes);
	blob_free(&b);
}

int main(void)
{
#define fetcher_test(name) cmocka_unit_test_setup_teardown(name, start, stop)
	const struct CMUnitTest tests[] = {
		fetcher_test(gzip_spans_are_the_tar),
		fetcher_test(zstd_spans_are_the_tar),
		fetcher_test(raw_spans_are_the_tar),
		fetcher_test(a_lent_slot_is_not_written),
		fetcher_test(what_cannot_be_decoded_fails_and_it_serves_on),
		fetcher_test(a_registry_that_is_not_there_fails),
		fetcher_test(a_config_is_parsed_into_its_diff_ids),
		fetcher_test(a_manifest_is_parsed),
		fetcher_test(it_ends_at_nonsense_and_while_it_waits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
