/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FLIGHT_FIXTURE_H
#define TESTS_UNIT_FLIGHT_FIXTURE_H

#include "oci/index/build.h"
#include "oci/stream.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/present.h"
#include "tests/unit/fake_space.h"
#include "tests/unit/fill_fixture.h"

/*
 * The real flight on a real loop (in a thread of its own, as the tests' assertions jump), with
 * real fetcher processes or sockets that the test answers itself, and everything around it faked.
 */
struct fixture {
	struct engine en;
	pthread_t loop_thread;
	struct blob blob;
	struct layer layer;
	struct layer_source sources[2];
	struct buf map_bytes;
	struct digest digests[64];
	pid_t pids[8];
	uint32_t npids;
};

/* --- the fakes; atomics, as any thread looks at them --- */

static atomic_uint rechecks, denials, denied_with, denied_span, synced, completed, opens;
static atomic_int gone_pid, open_result, write_result, sync_result, told_result;
static atomic_bool sync_gated, write_gated, whole_gated;
static sem_t sync_begun, sync_go, write_begun, write_go, whole_begun, whole_go;
static int blob_fd;

void fault_recheck(struct engine *en, struct layer *l, uint32_t first, uint32_t last)
{
	rechecks++;
}

void fault_deny(struct engine *en, struct layer *l, uint32_t first, uint32_t last, int err)
{
	denied_with = (unsigned)err;
	denied_span = first;
	denials++;
}

void present_synced(struct engine *en, struct layer *l)
{
	synced++;
}

void layer_completed(struct engine *en, struct layer *l)
{
	completed++;
}

int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e)
{
	int r = open_result;

	if (req->op == KEEP_FETCHER_GONE) {
		gone_pid = req->fetcher.pid;
		return 0;
	}
	opens++;
	fds[0] = -1;
	if (req->op != KEEP_LAYOUT_OPEN || strcmp(req->layout.dir, "/images/test") != 0)
		return err_set(e, -EINVAL, "not what was expected");
	if (r < 0)
		return err_errno(e, r, "the test says");
	fds[0] = fcntl(blob_fd, F_DUPFD_CLOEXEC, 3);
	return 0;
}

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
	if (sync_gated) {
		sem_post(&sync_begun);
		sem_wait(&sync_go);
	}
	errno = -sync_result;
	return sync_result < 0 ? -1 : 0;
}

int __real_fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off);
int __wrap_fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off);
int __wrap_fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off)
{
	if (write_gated) {
		sem_post(&write_begun);
		sem_wait(&write_go);
	}
	return write_result < 0 ? write_result : __real_fd_pwrite_full(fd, buf, len, off);
}

int __real_fd_pread_full(int fd, void *buf, size_t len, uint64_t off);
int __wrap_fd_pread_full(int fd, void *buf, size_t len, uint64_t off);
int __wrap_fd_pread_full(int fd, void *buf, size_t len, uint64_t off)
{
	/* Only the check of the whole tar reads more than a span at once. */
	if (whole_gated && len > FIXTURE_SPAN) {
		sem_post(&whole_begun);
		sem_wait(&whole_go);
	}
	return __real_fd_pread_full(fd, buf, len, off);
}

/* --- the layer --- */

static inline int digest_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct fixture *x = ctx;

	return digest_of(data, len, &x->digests[span]);
}

static inline void make_layer(struct fixture *x, enum codec_kind codec)
{
	struct build_input in = {
		.what = "test", .span_size = FIXTURE_SPAN, .span = digest_span, .ctx = x};
	_cleanup_(stream_freep) struct stream *s = NULL;
	_cleanup_buf_ struct buf toc;
	struct build_result res;
	struct layer *l = &x->layer;

	blob_make(&x->blob, codec, 20 * FIXTURE_SPAN + 777);
	buf_init(&toc, 1u << 20);
	buf_init(&x->map_bytes, 4u << 20);
	assert_int_equal(stream_of_mem(x->blob.bytes.data, x->blob.bytes.len, &s), 0);
	in.blob = s;
	in.blob_size = x->blob.bytes.len;
	in.blob_digest = x->blob.digest;
	assert_int_equal(build_index(&in, &toc, &x->map_bytes, &res, NULL), 0);
	l->diff_id = x->blob.diff_id;
	l->index = (struct index){.diff_id = x->blob.diff_id,
				  .tar_size = res.tar_size,
				  .span_size = FIXTURE_SPAN,
				  .nspans = res.nspans,
				  .digests = x->digests};
	l->fd_fill = memfd_create("tar", MFD_CLOEXEC);
	assert_true(l->fd_fill >= 0);
	assert_int_equal(ftruncate(l->fd_fill, (off_t)res.tar_size), 0);
	assert_int_equal(layer_spans_new(l), 0);
	l->sources = x->sources;
}

static inline struct layer_source *add_source(struct fixture *x)
{
	struct layer_source *s = &x->sources[x->layer.nsources++];

	assert_int_equal(blobmap_decode(x->map_bytes.data, x->map_bytes.len, "map", &s->map, NULL),
			 0);
	s->at.local = 1;
	s->at.blob = x->blob.digest;
	s->at.blob_size = x->blob.bytes.len;
	s->fd = -1;
	snprintf(s->dir, sizeof(s->dir), "/images/test");
	return s;
}

static inline void *run_loop(void *ctx)
{
	loop_run(((struct engine *)ctx)->loop);
	return NULL;
}

static inline struct fixture *setup_codec(enum codec_kind codec)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	rechecks = denials = denied_with = denied_span = synced = completed = opens = 0;
	open_result = write_result = sync_result = 0;
	told_result = 1;
	fake_space.taking = 0;
	fake_space.makes = false;
	fake_space.wants = fake_space.gave_back = 0;
	fake_space.taken = 0;
	sync_gated = write_gated = whole_gated = false;
	sem_init(&whole_begun, 0, 0);
	sem_init(&whole_go, 0, 0);
	sem_init(&write_begun, 0, 0);
	sem_init(&write_go, 0, 0);
	sem_init(&sync_begun, 0, 0);
	sem_init(&sync_go, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	log_init("test", LOG_ERROR);
	make_layer(x, codec);
	add_source(x);
	blob_fd = x->blob.fd;
	x->en.slots = calloc(1, sizeof(*x->en.slots));
	assert_non_null(x->en.slots);
	settings_default(&x->en.slots->settings);
	assert_int_equal(loop_new(&x->en.loop), 0);
	assert_int_equal(flight_new(&x->en, &x->en.flight), 0);
	assert_int_equal(pthread_create(&x->loop_thread, NULL, run_loop, &x->en), 0);
	return x;
}

static inline int setup_gzip(void **state)
{
	*state = setup_codec(CODEC_GZIP);
	return 0;
}

static inline int setup_zstd(void **state)
{
	*state = setup_codec(CODEC_ZSTD);
	return 0;
}

static inline void end_loop(void *ctx)
{
	loop_quit(ctx);
}

static inline int teardown(void **state)
{
	struct fixture *x = *state;
	struct layer *l = &x->layer;

	loop_post(x->en.loop, end_loop, x->en.loop);
	pthread_join(x->loop_thread, NULL);
	flight_free(x->en.flight);
	if (l->sync_timer)
		loop_cancel(l->sync_timer);
	loop_free(x->en.loop);
	for (uint32_t i = 0; i < x->npids; i++)
		waitpid(x->pids[i], NULL, 0);
	for (uint32_t i = 0; i < l->nsources; i++) {
		blobmap_free(x->sources[i].map);
		if (x->sources[i].opened)
			close(x->sources[i].fd);
	}
	layer_spans_free(l);
	close(l->fd_fill);
	buf_free(&x->map_bytes);
	blob_free(&x->blob);
	free(x->en.slots);
	free(x);
	return 0;
}

/* --- asking the loop --- */

struct ask {
	struct fixture *x;
	struct layer *l; /* NULL: the fixture's */
	uint32_t first, last;
	enum prio prio;
	int sock, buffer, pid;
	enum span_state state;
	uint64_t off, len;
};

static inline int do_set(void *ctx)
{
	struct ask *a = ctx;

	for (uint32_t i = a->first; i <= a->last; i++)
		span_set(&a->x->layer, i, a->state);
	return 0;
}

static inline int do_want(void *ctx)
{
	struct ask *a = ctx;

	flight_want(a->x->en.flight, a->l ? a->l : &a->x->layer, a->first, a->last, a->prio);
	return 0;
}

static inline void want(struct fixture *x, uint32_t first, uint32_t last, enum prio prio)
{
	struct ask a = {.x = x, .first = first, .last = last, .prio = prio};

	loop_call(x->en.loop, do_want, &a);
}

static inline int do_count(void *ctx)
{
	struct ask *a = ctx;
	int n = 0;

	for (uint32_t i = a->first; i <= a->last; i++)
		n += a->x->layer.spans[i].state == a->state;
	return n;
}

/* How many of spans [first, last] are in @state. */
static inline int count(struct fixture *x, uint32_t first, uint32_t last, enum span_state state)
{
	struct ask a = {.x = x, .first = first, .last = last, .state = state};

	return loop_call(x->en.loop, do_count, &a);
}

/* Up to a minute: fdatasync takes what the machine's other writers leave it. */
static inline void wait_state(struct fixture *x, uint32_t first, uint32_t last,
			      enum span_state state)
{
	for (int i = 0; i < 12000; i++) {
		if (count(x, first, last, state) == (int)(last - first + 1))
			return;
		usleep(5000);
	}
	fail_msg("spans %u to %u are not in state %d", first, last, state);
}

static inline void wait_for(atomic_uint *counter, unsigned n)
{
	for (int i = 0; i < 12000 && *counter < n; i++)
		usleep(5000);
	assert_true(*counter >= n);
}

static inline int do_add(void *ctx)
{
	struct ask *a = ctx;

	return flight_add_fetcher(a->x->en.flight, a->sock, a->buffer, a->pid);
}

static inline pid_t add_fetcher(struct fixture *x)
{
	struct ask a = {.x = x};

	a.pid = fetcher_start(&a.sock, &a.buffer);
	x->pids[x->npids++] = a.pid;
	assert_int_equal(loop_call(x->en.loop, do_add, &a), 0);
	return a.pid;
}

/* A fetcher that the test plays: the other end of its socket. */
#define PUPPET_PID 999999999 /* nobody's */

static inline int add_puppet(struct fixture *x)
{
	struct ask a = {.x = x, .buffer = buffer_new(), .pid = PUPPET_PID};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	a.sock = pair[0];
	assert_int_equal(loop_call(x->en.loop, do_add, &a), 0);
	return pair[1];
}

static inline bool puppet_job(int sock, struct fetch_job *job, int ms)
{
	struct pollfd p = {.fd = sock, .events = POLLIN};
	int fds[4], nfds;

	if (poll(&p, 1, ms) == 0)
		return false;
	assert_int_equal(keep_recvmsg(sock, job, sizeof(*job), fds, 4, &nfds), sizeof(*job));
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	return true;
}

static inline void puppet_say(int sock, enum fetch_kind op, const struct fetch_job *job, int code,
			      const char *text)
{
	struct fetch_note n = {.op = op, .id = job->id, .code = code};

	snprintf(n.text, sizeof(n.text), "%s", text);
	assert_int_equal(keep_sendmsg(sock, &n, sizeof(n), NULL, 0), 0);
}

static inline void tar_is_right(struct fixture *x, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i <= last; i++) {
		uint32_t len = index_span_len(&x->layer.index, i);
		uint64_t off = index_span_start(&x->layer.index, i);
		uint8_t got[FIXTURE_SPAN];

		assert_int_equal(fd_pread_full(x->layer.fd_fill, got, len, off), 0);
		assert_memory_equal(got, x->blob.tar.data + off, len);
	}
}

static inline void spoil(struct fixture *x, uint64_t off)
{
	static const uint8_t zeros[4096];

	assert_int_equal(__real_fd_pwrite_full(x->layer.fd_fill, zeros, sizeof(zeros), off), 0);
}

static inline uint32_t last_span(const struct fixture *x)
{
	return x->layer.index.nspans - 1;
}

static inline void set_result(void *ctx, int result)
{
	told_result = result;
}

static inline void wait_result(int want_result)
{
	for (int i = 0; i < 12000 && told_result == 1; i++)
		usleep(5000);
	assert_int_equal(told_result, want_result);
}

#define gzip_test(name) cmocka_unit_test_setup_teardown(name, setup_gzip, teardown)
#define zstd_test(name) cmocka_unit_test_setup_teardown(name, setup_zstd, teardown)

#endif
