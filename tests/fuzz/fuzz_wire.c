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
#include "oci/index/build.h"
#include "oci/stream.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/present.h"
#include "tests/fuzz/fake_loop.h"
#include "tests/unit/fake_space.h"
#include "tests/unit/fill_fixture.h"

/*
 * What fetchers say that were taken over: to the pool, and to a task's own. Input: a byte for the
 * task's job, then words of WORD bytes each; all zeros say "the next span, whole, in slot 0".
 */
#define WORD          12
#define WORDS_MAX     64
#define ONESHOT_WORDS 8
#define PUPPETS       2
#define SPANS         5

struct word {
	uint8_t what; /* bit 0 which fetcher; 1 it dies; 2 time passes; 3 a short message */
	uint8_t op, slot;
	int8_t span, id; /* of what is due, the difference */
	int16_t len, code;
	uint8_t spoil; /* 0: the right bytes */
	uint16_t received;
};

static struct blob blob;
static struct digest digests[SPANS + 2];
static struct buf map_bytes;
static struct slots *slots;
static struct layer_source sources[2];
static struct layer layer;
static struct engine en;

static struct puppet {
	int sock; /* -1: it is dead */
	int buffer;
	uint8_t *mem;
	struct fetch_job job;
	uint32_t next; /* span that is due */
} puppets[PUPPETS];

/* --- around the pool --- */

static void is_right(uint32_t span)
{
	static uint8_t got[FIXTURE_SPAN];
	uint32_t len = index_span_len(&layer.index, span);
	uint64_t off = index_span_start(&layer.index, span);

	if (fd_pread_full(layer.fd_fill, got, len, off) < 0 ||
	    memcmp(got, blob.tar.data + off, len) != 0)
		abort();
}

/* Whoever waits is let in: to the right bytes. */
void fault_recheck(struct engine *e, struct layer *l, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i <= last; i++)
		if (span_present(&l->spans[i]))
			is_right(i);
}

void fault_deny(struct engine *e, struct layer *l, uint32_t first, uint32_t last, int err)
{
	if (err <= 0)
		abort();
}

void present_synced(struct engine *e, struct layer *l) {}

void layer_completed(struct engine *e, struct layer *l)
{
	for (uint32_t i = 0; i < l->index.nspans; i++)
		is_right(i);
}

static void puppet_open(struct puppet *p, int *ret_sock, int *ret_buffer)
{
	int pair[2];

	if (!p->mem) {
		p->buffer = buffer_new();
		p->mem = mmap(NULL, FETCH_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			      p->buffer, 0);
		assert_true(p->mem != MAP_FAILED);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	p->sock = pair[1];
	*ret_sock = pair[0];
	*ret_buffer = fcntl(p->buffer, F_DUPFD_CLOEXEC, 3);
	assert_true(*ret_buffer >= 0);
}

static void puppet_close(struct puppet *p)
{
	if (p->sock >= 0)
		close(p->sock);
	p->sock = -1;
}

int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e)
{
	if (req->op == KEEP_FETCHER_GONE)
		return 0;
	assert_int_equal(req->op, KEEP_FETCHER);
	puppet_open(&puppets[0], &fds[0], &fds[1]);
	rep->fetcher.pid = 1;
	return 0;
}

/* --- a layer --- */

static int digest_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	return digest_of(data, len, &digests[span]);
}

static void make_blob(void)
{
	struct build_input in = {.what = "test", .span_size = FIXTURE_SPAN, .span = digest_span};
	_cleanup_(stream_freep) struct stream *s = NULL;
	_cleanup_buf_ struct buf toc;
	struct build_result res;

	blob_make(&blob, CODEC_RAW, (SPANS - 1) * FIXTURE_SPAN + 777);
	buf_init(&toc, 1u << 20);
	buf_init(&map_bytes, 4u << 20);
	assert_int_equal(stream_of_mem(blob.bytes.data, blob.bytes.len, &s), 0);
	in.blob = s;
	in.blob_size = blob.bytes.len;
	in.blob_digest = blob.digest;
	assert_int_equal(build_index(&in, &toc, &map_bytes, &res, NULL), 0);
	assert_int_equal(res.nspans, SPANS);
	layer.diff_id = blob.diff_id;
	layer.index = (struct index){.diff_id = blob.diff_id,
				     .tar_size = res.tar_size,
				     .span_size = FIXTURE_SPAN,
				     .nspans = res.nspans,
				     .digests = digests};
	layer.fd_fill = memfd_create("tar", MFD_CLOEXEC);
	assert_true(layer.fd_fill >= 0);
}

static void once(void)
{
	static const int quiet = -1;

	if (slots)
		return;
	slots = calloc(1, sizeof(*slots));
	assert_non_null(slots);
	settings_default(&slots->settings);
	log_follow(&quiet);
	make_blob();
}

static void set_up(void)
{
	struct layer fresh = {.diff_id = layer.diff_id,
			      .index = layer.index,
			      .fd_fill = layer.fd_fill,
			      .sources = sources,
			      .nsources = 2};

	layer = fresh;
	assert_int_equal(layer_spans_new(&layer), 0);
	assert_int_equal(ftruncate(layer.fd_fill, 0), 0);
	assert_int_equal(ftruncate(layer.fd_fill, (off_t)layer.index.tar_size), 0);
	for (uint32_t i = 0; i < layer.nsources; i++) {
		sources[i] = (struct layer_source){.fd = -1};
		sources[i].at.blob = blob.digest;
		sources[i].at.blob_size = blob.bytes.len;
		assert_int_equal(
			blobmap_decode(map_bytes.data, map_bytes.len, "map", &sources[i].map, NULL),
			0);
	}
	en = (struct engine){.slots = slots};
	assert_int_equal(flight_new(&en, &en.flight), 0);
}

static void tear_down(void)
{
	for (uint32_t i = 0; i < layer.index.nspans; i++)
		if (span_present(&layer.spans[i]))
			is_right(i);
	flight_free(en.flight);
	while (fake_loop.timers)
		loop_cancel(fake_loop.timers);
	for (uint32_t i = 0; i < layer.nsources; i++)
		blobmap_free(sources[i].map);
	layer_spans_free(&layer);
	for (int i = 0; i < PUPPETS; i++)
		puppet_close(&puppets[i]);
}

/* --- what is said --- */

static struct word take_word(struct bytes *b)
{
	struct word w;

	w.what = bytes_u8(b);
	w.op = bytes_u8(b);
	w.slot = bytes_u8(b);
	w.span = (int8_t)bytes_u8(b);
	w.id = (int8_t)bytes_u8(b);
	w.len = (int16_t)bytes_le(b, 2);
	w.code = (int16_t)bytes_le(b, 2);
	w.spoil = bytes_u8(b);
	w.received = (uint16_t)bytes_le(b, 2);
	return w;
}

static uint32_t op_of(uint8_t op)
{
	static const uint32_t ops[] = {FETCH_SPAN,  FETCH_DONE, FETCH_FAIL,
				       FETCH_BYTES, FETCH_ACK,  FETCH_SPANS};

	return op < sizeof(ops) / sizeof(ops[0]) ? ops[op] : op;
}

static void fill_slot(const struct puppet *p, const struct word *w, uint32_t span)
{
	uint8_t *at = p->mem + (size_t)(w->slot % FETCH_SLOTS) * LIMIT_SPAN_MAX;
	uint64_t off = (uint64_t)span * FIXTURE_SPAN;

	if (off >= blob.tar.len)
		off = 0;
	memcpy(at, blob.tar.data + off,
	       blob.tar.len - off < FIXTURE_SPAN ? blob.tar.len - off : FIXTURE_SPAN);
	at[0] ^= w->spoil;
}

static void say(struct puppet *p, const struct word *w, uint32_t len)
{
	uint32_t span = p->next + (uint32_t)w->span;
	struct fetch_note n = {.op = op_of(w->op),
			       .id = p->job.id + (uint32_t)w->id,
			       .slot = w->slot,
			       .span = span,
			       .len = len + (uint32_t)w->len,
			       .code = w->code,
			       .retry_after_s = w->received,
			       .received = w->received};

	memset(n.text, w->spoil, sizeof(n.text));
	memset(n.content_type, w->spoil, sizeof(n.content_type));
	memset(&n.links, w->spoil, sizeof(n.links));
	if (n.op == FETCH_SPAN || n.op == FETCH_BYTES)
		fill_slot(p, w, span);
	if (send(p->sock, &n, w->what & 8 ? w->slot : sizeof(n), MSG_NOSIGNAL | MSG_DONTWAIT) > 0 &&
	    n.op == FETCH_SPAN)
		p->next++;
}

/* Jobs and acknowledgements are read, so that the next ones find room. */
static void hear(struct puppet *p)
{
	static union {
		struct fetch_ack ack;
		struct fetch_job job;
	} m;
	int fds[KEEP_FDS_MAX], nfds;
	struct pollfd pfd = {.fd = p->sock, .events = POLLIN};

	while (p->sock >= 0 && poll(&pfd, 1, 0) > 0) {
		ssize_t n = keep_recvmsg(p->sock, &m, sizeof(m), fds, KEEP_FDS_MAX, &nfds);

		for (int i = 0; n > 0 && i < nfds; i++)
			close(fds[i]);
		if (n <= 0) {
			puppet_close(p);
		} else if (n == (ssize_t)sizeof(m.job)) {
			p->job = m.job;
			p->next = m.job.first_span;
		}
	}
}

/* --- the pool --- */

static void add_puppet(struct puppet *p)
{
	int sock, buffer;

	memset(&p->job, 0, sizeof(p->job));
	p->next = 0;
	puppet_open(p, &sock, &buffer);
	assert_int_equal(flight_add_fetcher(en.flight, sock, buffer, 1), 0);
}

static void step(const struct word *w)
{
	struct puppet *p = &puppets[w->what & 1];
	uint32_t due = p->next < layer.index.nspans ? index_span_len(&layer.index, p->next) : 0;

	if (w->what & 4) {
		fake_loop.now_ms += w->received;
		flight_want(en.flight, &layer, w->slot % SPANS, SPANS - 1,
			    (enum prio)(w->op % PRIO_COUNT));
	} else if (p->sock < 0) {
		add_puppet(p);
	} else if (w->what & 2) {
		puppet_close(p);
	} else {
		say(p, w, due);
	}
	fake_loop_settle();
	hear(p);
}

static void pool(struct bytes b)
{
	set_up();
	for (int i = 0; i < PUPPETS; i++)
		add_puppet(&puppets[i]);
	flight_want(en.flight, &layer, 1, SPANS - 1, PRIO_DEMAND);
	fake_loop_settle();
	for (int i = 0; i < PUPPETS; i++)
		hear(&puppets[i]);
	for (int i = 0; i < WORDS_MAX && b.left >= WORD; i++) {
		struct word w = take_word(&b);

		step(&w);
	}
	tear_down();
}

/* --- a task's own --- */

struct heard {
	const struct fetch_job *job;
	uint32_t next, documents;
};

static int on_note(void *ctx, const struct fetch_note *n, const void *data, struct err *e)
{
	struct heard *h = ctx;
	bool spans = h->job->op == FETCH_SPANS || h->job->op == FETCH_INDEX;
	const uint8_t *p = data;

	if (n->op != (spans ? FETCH_SPAN : FETCH_BYTES) || n->len > LIMIT_SPAN_MAX)
		abort();
	if (n->len && p[0] + p[n->len - 1] == -1)
		abort();
	if (!memchr(n->content_type, 0, sizeof(n->content_type)))
		abort();
	if (spans ? n->span != h->next++ || n->len > h->job->span_size : h->documents++ > 0)
		abort();
	return 0;
}

static void oneshot(struct bytes b)
{
	static struct fetch_job job;
	struct heard h = {.job = &job};
	struct oneshot *o = NULL;
	struct fetch_note final;
	struct err e = ERR_INIT;
	int r;

	memset(&job, 0, sizeof(job));
	job.op = FETCH_SPANS + bytes_u8(&b) % FETCH_PARSE_CONFIG;
	job.span_size = FIXTURE_SPAN;
	job.first_span = h.next = job.op == FETCH_SPANS ? 1 : 0;
	en = (struct engine){.slots = slots};
	assert_int_equal(oneshot_new(&en, &o, &e), 0);
	puppets[0].job.id = 1;
	puppets[0].next = h.next;
	for (int i = 0; i < ONESHOT_WORDS && b.left >= WORD; i++) {
		struct word w = take_word(&b);

		say(&puppets[0], &w, FIXTURE_SPAN);
	}
	/* Nothing is said after that, and nobody has to wait for it. */
	shutdown(puppets[0].sock, SHUT_WR);
	r = oneshot_run(o, &job, NULL, 0, on_note, &h, &final, &e);
	if (r > 0 || (r < 0 && (e.code != r || !*e.text || strchr(e.text, '\n'))))
		abort();
	oneshot_free(o);
	puppet_close(&puppets[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	once();
	oneshot(bytes_of(data, size));
	if (size > 1)
		pool(bytes_of(data + 1, size - 1));
	return 0;
}
