/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=fdatasync -Wl,--wrap=fd_pwrite_full */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

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
static atomic_int open_result, write_result, sync_result, drain_result;
static atomic_bool sync_gated;
static sem_t sync_begun, sync_go;
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
	return write_result < 0 ? write_result : __real_fd_pwrite_full(fd, buf, len, off);
}

/* --- the layer --- */

static int digest_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct fixture *x = ctx;

	return digest_of(data, len, &x->digests[span]);
}

static void make_layer(struct fixture *x, enum codec_kind codec)
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

static struct layer_source *add_source(struct fixture *x)
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

static void *run_loop(void *ctx)
{
	loop_run(((struct engine *)ctx)->loop);
	return NULL;
}

static struct fixture *setup_codec(enum codec_kind codec)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	rechecks = denials = denied_with = denied_span = synced = completed = opens = 0;
	open_result = write_result = sync_result = 0;
	drain_result = 1;
	sync_gated = false;
	sem_init(&sync_begun, 0, 0);
	sem_init(&sync_go, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_ERROR);
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

static int setup_gzip(void **state)
{
	*state = setup_codec(CODEC_GZIP);
	return 0;
}

static int setup_zstd(void **state)
{
	*state = setup_codec(CODEC_ZSTD);
	return 0;
}

static void end_loop(void *ctx)
{
	loop_quit(ctx);
}

static int teardown(void **state)
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
	uint32_t first, last;
	enum prio prio;
	int sock, buffer, pid;
	enum span_state state;
	uint64_t off, len;
};

static int do_want(void *ctx)
{
	struct ask *a = ctx;

	flight_want(a->x->en.flight, &a->x->layer, a->first, a->last, a->prio);
	return 0;
}

static void want(struct fixture *x, uint32_t first, uint32_t last, enum prio prio)
{
	struct ask a = {.x = x, .first = first, .last = last, .prio = prio};

	loop_call(x->en.loop, do_want, &a);
}

static int do_count(void *ctx)
{
	struct ask *a = ctx;
	int n = 0;

	for (uint32_t i = a->first; i <= a->last; i++)
		n += a->x->layer.spans[i].state == a->state;
	return n;
}

/* How many of spans [first, last] are in @state. */
static int count(struct fixture *x, uint32_t first, uint32_t last, enum span_state state)
{
	struct ask a = {.x = x, .first = first, .last = last, .state = state};

	return loop_call(x->en.loop, do_count, &a);
}

static void wait_state(struct fixture *x, uint32_t first, uint32_t last, enum span_state state)
{
	for (int i = 0; i < 2000; i++) {
		if (count(x, first, last, state) == (int)(last - first + 1))
			return;
		usleep(5000);
	}
	fail_msg("spans %u to %u are not in state %d", first, last, state);
}

static void wait_for(atomic_uint *counter, unsigned n)
{
	for (int i = 0; i < 2000 && *counter < n; i++)
		usleep(5000);
	assert_true(*counter >= n);
}

static int do_add(void *ctx)
{
	struct ask *a = ctx;

	return flight_add_fetcher(a->x->en.flight, a->sock, a->buffer, a->pid);
}

static pid_t add_fetcher(struct fixture *x)
{
	struct ask a = {.x = x};

	a.pid = fetcher_start(&a.sock, &a.buffer);
	x->pids[x->npids++] = a.pid;
	assert_int_equal(loop_call(x->en.loop, do_add, &a), 0);
	return a.pid;
}

/* A fetcher that the test plays: the other end of its socket. */
static int add_puppet(struct fixture *x)
{
	struct ask a = {.x = x, .buffer = buffer_new()};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	a.sock = pair[0];
	assert_int_equal(loop_call(x->en.loop, do_add, &a), 0);
	return pair[1];
}

static bool puppet_job(int sock, struct fetch_job *job, int ms)
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

static void puppet_say(int sock, enum fetch_kind op, const struct fetch_job *job, int code,
		       const char *text)
{
	struct fetch_note n = {.op = op, .id = job->id, .code = code};

	snprintf(n.text, sizeof(n.text), "%s", text);
	assert_int_equal(keep_sendmsg(sock, &n, sizeof(n), NULL, 0), 0);
}

static void tar_is_right(struct fixture *x, uint32_t first, uint32_t last)
{
	for (uint32_t i = first; i <= last; i++) {
		uint32_t len = index_span_len(&x->layer.index, i);
		uint64_t off = index_span_start(&x->layer.index, i);
		uint8_t got[FIXTURE_SPAN];

		assert_int_equal(fd_pread_full(x->layer.fd_fill, got, len, off), 0);
		assert_memory_equal(got, x->blob.tar.data + off, len);
	}
}

static void spoil(struct fixture *x, uint64_t off)
{
	static const uint8_t zeros[4096];

	assert_int_equal(__real_fd_pwrite_full(x->layer.fd_fill, zeros, sizeof(zeros), off), 0);
}

static uint32_t last_span(const struct fixture *x)
{
	return x->layer.index.nspans - 1;
}

/* --- the way of a span --- */

static void demand_is_written_then_durable(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	want(x, 3, 3, PRIO_DEMAND);
	wait_for(&rechecks, 1);
	assert_int_equal(count(x, 3, 3, SPAN_DIRTY), 1);
	tar_is_right(x, 3, 3);
	assert_int_equal(synced, 0);
	wait_state(x, 3, 3, SPAN_CLEAN);
	wait_for(&synced, 1);
	assert_int_equal(count(x, 0, last_span(x), SPAN_ABSENT), (int)last_span(x));
	assert_int_equal(opens, 1);
	assert_int_equal(denials, 0);
	assert_int_equal(completed, 0);
	want(x, last_span(x), last_span(x), PRIO_DEMAND);
	wait_state(x, last_span(x), last_span(x), SPAN_CLEAN);
	tar_is_right(x, last_span(x), last_span(x));
	assert_int_equal(opens, 1);
}

static void a_filled_layer_becomes_complete(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	add_fetcher(x);
	want(x, 0, last_span(x), PRIO_FILL);
	wait_for(&completed, 1);
	tar_is_right(x, 0, last_span(x));
	assert_true(x->layer.complete);
	assert_false(x->layer.quarantined);
	assert_int_equal(x->en.count.filled, x->blob.tar.len);
	assert_true(x->en.count.fetched > 0);
}

static int do_quarantined(void *ctx)
{
	return ((struct fixture *)ctx)->layer.quarantined;
}

static void a_whole_that_is_not_the_layer_is_quarantined(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	x->layer.index.diff_id.sum[0] ^= 1;
	want(x, 0, last_span(x), PRIO_FILL);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	for (int i = 0; i < 2000 && loop_call(x->en.loop, do_quarantined, x) == 0; i++)
		usleep(5000);
	assert_true(x->layer.quarantined);
	assert_false(x->layer.complete);
	assert_int_equal(completed, 0);
}

static void one_frame_is_streamed_whole(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	want(x, last_span(x) - 2, last_span(x) - 2, PRIO_DEMAND);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	tar_is_right(x, 0, last_span(x));
	assert_int_equal(x->en.count.fetched, x->blob.bytes.len);
}

/* --- order --- */

static void neighbours_are_one_job_and_demand_is_first(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int puppet[2];

	want(x, 0, 9, PRIO_FILL);
	want(x, 12, 17, PRIO_DEMAND);
	puppet[0] = add_puppet(x);
	assert_true(puppet_job(puppet[0], &job, 5000));
	assert_int_equal(job.op, FETCH_SPANS);
	assert_int_equal(job.first_span, 12);
	assert_int_equal(job.nspans, 4);
	assert_int_equal(job.tar_size, x->blob.tar.len);
	assert_true(digest_equal(&job.source.blob, &x->blob.digest));
	puppet[1] = add_puppet(x);
	assert_true(puppet_job(puppet[1], &job, 5000));
	assert_int_equal(job.first_span, 16);
	assert_int_equal(job.nspans, 2);
	close(puppet[0]);
	close(puppet[1]);
}

static void background_leaves_a_fetcher_to_demand(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a = add_puppet(x), b = add_puppet(x), first, second;

	want(x, 0, 18, PRIO_FILL);
	first = puppet_job(a, &job, 1000) ? a : b;
	second = first == a ? b : a;
	if (first == b)
		assert_true(puppet_job(b, &job, 5000));
	assert_int_equal(job.first_span, 0);
	assert_int_equal(job.nspans, 8);
	assert_false(puppet_job(second, &job, 300));
	want(x, 15, 15, PRIO_DEMAND);
	assert_true(puppet_job(second, &job, 5000));
	assert_int_equal(job.first_span, 15);
	assert_int_equal(job.nspans, 4);
	close(a);
	close(b);
}

static void a_queued_span_gains_priority_and_is_asked_once(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a;

	want(x, 0, 5, PRIO_FILL);
	want(x, 5, 5, PRIO_DEMAND);
	want(x, 5, 5, PRIO_DEMAND);
	a = add_puppet(x);
	assert_true(puppet_job(a, &job, 5000));
	assert_int_equal(job.first_span, 5);
	assert_int_equal(job.nspans, 1);
	want(x, 5, 5, PRIO_DEMAND);
	assert_false(puppet_job(a, &job, 200));
	close(a);
}

/* --- sources --- */

static void wrong_bytes_condemn_the_source(void **state)
{
	struct fixture *x = *state;

	x->digests[4].sum[0] ^= 1;
	add_fetcher(x);
	want(x, 4, 4, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, EIO);
	assert_int_equal(denied_span, 4);
	assert_int_equal(count(x, 4, 4, SPAN_ABSENT), 1);
	assert_true(x->sources[0].bad);
	want(x, 5, 5, PRIO_DEMAND);
	wait_for(&denials, 2);
	assert_int_equal(rechecks, 0);
}

static void another_source_is_asked_after_a_bad_one(void **state)
{
	struct fixture *x = *state;
	uint8_t bad[4096];

	/* The first source's blob is damaged in its middle, the second's is not. */
	add_source(x);
	memset(bad, 0xff, sizeof(bad));
	x->sources[0].fd = memfd_create("bad", MFD_CLOEXEC);
	x->sources[0].opened = true;
	assert_int_equal(fd_write_full(x->sources[0].fd, x->blob.bytes.data, x->blob.bytes.len), 0);
	assert_int_equal(
		__real_fd_pwrite_full(x->sources[0].fd, bad, sizeof(bad), x->blob.bytes.len / 2),
		0);
	add_fetcher(x);
	want(x, 0, last_span(x), PRIO_DEMAND);
	wait_state(x, 0, last_span(x), SPAN_CLEAN);
	tar_is_right(x, 0, last_span(x));
	assert_true(x->sources[0].bad);
	assert_false(x->sources[1].bad);
	assert_int_equal(denials, 0);
}

static void make_remote(struct fixture *x)
{
	x->sources[0].at.local = 0;
	snprintf(x->sources[0].at.at.host, sizeof(x->sources[0].at.at.host), "registry.test");
	snprintf(x->sources[0].at.at.repo, sizeof(x->sources[0].at.at.repo), "image");
}

static void a_host_in_trouble_is_tried_by_one(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job, other;
	int a, b, busy, idle;

	make_remote(x);
	want(x, 2, 2, PRIO_DEMAND);
	want(x, 9, 9, PRIO_DEMAND);
	a = add_puppet(x);
	b = add_puppet(x);
	assert_true(puppet_job(a, &job, 5000));
	assert_true(puppet_job(b, &other, 5000));
	puppet_say(a, FETCH_FAIL, &job, -ETIMEDOUT, "no answer");
	puppet_say(b, FETCH_FAIL, &other, -ETIMEDOUT, "no answer");
	/* Both wait again, and are tried one after the other. */
	busy = puppet_job(a, &job, 1000) ? a : b;
	idle = busy == a ? b : a;
	if (busy == b)
		assert_true(puppet_job(b, &job, 2000));
	assert_false(puppet_job(idle, &other, 1000));
	assert_int_equal(denials, 0);
	close(a);
	close(b);
}

static void a_passing_failure_is_not_seen(void **state)
{
	struct fixture *x = *state;

	open_result = -EAGAIN;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&opens, 3);
	assert_int_equal(denials, 0);
	open_result = 0;
	wait_state(x, 2, 2, SPAN_DIRTY);
	tar_is_right(x, 2, 2);
	assert_int_equal(x->sources[0].fails, 0);
}

static void a_lasting_failure_ends_at_the_deadline(void **state)
{
	struct fixture *x = *state;
	uint64_t began = clock_ms();

	x->en.slots->settings.deadline_ms = 1000;
	open_result = -EAGAIN;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, EIO);
	assert_in_range(clock_ms() - began, 1000, 4000);
	assert_int_equal(count(x, 2, 2, SPAN_ABSENT), 1);
}

static void a_blob_that_is_gone_is_denied_at_once(void **state)
{
	struct fixture *x = *state;

	open_result = -ENOENT;
	add_fetcher(x);
	want(x, 2, 2, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, EIO);
	/* And served when it is back. */
	open_result = 0;
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
}

static void background_goes_back_to_absent(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	int a = add_puppet(x);

	want(x, 0, 3, PRIO_AHEAD);
	assert_true(puppet_job(a, &job, 5000));
	puppet_say(a, FETCH_FAIL, &job, -ETIMEDOUT, "slow\nlink");
	wait_state(x, 0, 3, SPAN_ABSENT);
	assert_int_equal(denials, 0);
	assert_string_equal(x->sources[0].last_error, "slow?link");
	close(a);
}

/* --- fetchers --- */

static void a_killed_fetcher_is_not_seen(void **state)
{
	struct fixture *x = *state;
	pid_t pid = add_fetcher(x);

	kill(pid, SIGSTOP);
	want(x, 0, 11, PRIO_DEMAND);
	usleep(100000);
	kill(pid, SIGKILL);
	usleep(100000);
	assert_int_equal(count(x, 0, 11, SPAN_QUEUED), 12);
	add_fetcher(x);
	wait_state(x, 0, 11, SPAN_CLEAN);
	tar_is_right(x, 0, 11);
	assert_int_equal(denials, 0);
}

static void the_third_death_fails_the_source_for_the_span(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;

	want(x, 6, 8, PRIO_DEMAND);
	for (int i = 0; i < 3; i++) {
		int a = add_puppet(x);

		assert_true(puppet_job(a, &job, 5000));
		assert_int_equal(job.first_span, 6);
		assert_int_equal(job.nspans, i ? 1 : 3);
		assert_int_equal(denials, 0);
		close(a);
	}
	add_fetcher(x);
	wait_for(&denials, 1);
	assert_int_equal(denied_span, 6);
	wait_state(x, 7, 8, SPAN_DIRTY);
	assert_int_equal(denials, 1);
	/* Nor is it tried again. */
	want(x, 6, 6, PRIO_DEMAND);
	wait_for(&denials, 2);
}

static int do_forgive(void *ctx)
{
	struct ask *a = ctx;

	a->x->layer.spans[a->first].deaths = 0;
	return 0;
}

static void forgive(struct fixture *x, uint32_t span)
{
	struct ask a = {.x = x, .first = span};

	loop_call(x->en.loop, do_forgive, &a);
}

static void nonsense_is_dropped(struct fixture *x, struct fetch_note note)
{
	static struct fetch_job job;
	int a = add_puppet(x);
	char c;

	want(x, 9, 9, PRIO_DEMAND);
	assert_true(puppet_job(a, &job, 5000));
	note.id += job.id;
	assert_int_equal(keep_sendmsg(a, &note, sizeof(note), NULL, 0), 0);
	assert_true(recv(a, &c, 1, 0) <= 0);
	close(a);
	assert_int_equal(count(x, 9, 9, SPAN_QUEUED), 1);
}

static void who_talks_nonsense_is_dropped(void **state)
{
	struct fixture *x = *state;
	static const struct fetch_note good = {.op = FETCH_SPAN, .span = 9, .len = FIXTURE_SPAN};
	struct fetch_note bad = good;
	int a;

	bad.id = 1;
	nonsense_is_dropped(x, bad);
	bad = good;
	bad.slot = FETCH_SLOTS;
	nonsense_is_dropped(x, bad);
	forgive(x, 9);
	bad = good;
	bad.len = FIXTURE_SPAN + 1;
	nonsense_is_dropped(x, bad);
	bad = good;
	bad.span = 10;
	nonsense_is_dropped(x, bad);
	forgive(x, 9);
	bad.op = FETCH_DONE;
	nonsense_is_dropped(x, bad);
	bad.op = FETCH_BYTES;
	nonsense_is_dropped(x, bad);
	forgive(x, 9);
	a = add_puppet(x);
	assert_int_equal(keep_sendmsg(a, "hello", 5, NULL, 0), 0);
	close(a);
	add_fetcher(x);
	wait_state(x, 9, 9, SPAN_DIRTY);
	tar_is_right(x, 9, 9);
}

static void what_a_fetcher_makes_up_is_not_written(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct fetch_note n = {.op = FETCH_SPAN, .span = 9, .len = FIXTURE_SPAN};
	uint8_t got[512], zeros[512] = {0};
	int a = add_puppet(x);

	want(x, 9, 9, PRIO_DEMAND);
	assert_true(puppet_job(a, &job, 5000));
	n.id = job.id;
	assert_int_equal(keep_sendmsg(a, &n, sizeof(n), NULL, 0), 0);
	wait_for(&denials, 1);
	assert_true(x->sources[0].bad);
	assert_int_equal(fd_pread_full(x->layer.fd_fill, got, sizeof(got), 9 * FIXTURE_SPAN), 0);
	assert_memory_equal(got, zeros, sizeof(got));
	close(a);
}

static int do_pids(void *ctx)
{
	int32_t pids[4];

	return (int)flight_fetchers(((struct ask *)ctx)->x->en.flight, pids, 4);
}

static void an_unsealed_buffer_is_refused(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .buffer = memfd_create("buffer", MFD_CLOEXEC)};
	int pair[2];

	assert_int_equal(ftruncate(a.buffer, (off_t)FETCH_BUFFER_SIZE), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	a.sock = pair[0];
	assert_int_equal(loop_call(x->en.loop, do_add, &a), -EINVAL);
	assert_int_equal(loop_call(x->en.loop, do_pids, &a), 0);
	close(pair[1]);
}

/* --- the store --- */

static void a_full_store_is_told(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	write_result = -ENOSPC;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&denials, 1);
	assert_int_equal(denied_with, ENOSPC);
	assert_int_equal(count(x, 1, 1, SPAN_ABSENT), 1);
	write_result = -EDQUOT;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&denials, 2);
	assert_int_equal(denied_with, EDQUOT);
	write_result = -EROFS;
	want(x, 1, 1, PRIO_DEMAND);
	wait_for(&denials, 3);
	assert_int_equal(denied_with, EIO);
	assert_false(x->sources[0].bad);
	write_result = 0;
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_DIRTY);
}

static void a_failed_sync_makes_dirty_spans_absent(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	want(x, 1, 1, PRIO_DEMAND);
	wait_state(x, 1, 1, SPAN_CLEAN);
	sync_result = -ENOSPC;
	want(x, 4, 5, PRIO_DEMAND);
	wait_for(&rechecks, 3);
	wait_state(x, 4, 5, SPAN_ABSENT);
	assert_int_equal(count(x, 1, 1, SPAN_CLEAN), 1);
	assert_int_equal(synced, 1);
	sync_result = 0;
	want(x, 4, 5, PRIO_DEMAND);
	wait_state(x, 4, 5, SPAN_CLEAN);
	tar_is_right(x, 4, 5);
}

static void a_sync_is_only_good_for_what_was_written_before_it(void **state)
{
	struct fixture *x = *state;

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	sem_wait(&sync_begun);
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
	sem_post(&sync_go);
	wait_state(x, 1, 1, SPAN_CLEAN);
	assert_int_equal(count(x, 2, 2, SPAN_DIRTY), 1);
	sem_wait(&sync_begun);
	/* And a failure takes also what was written while it ran. */
	want(x, 3, 3, PRIO_DEMAND);
	wait_state(x, 3, 3, SPAN_DIRTY);
	sync_result = -EIO;
	sem_post(&sync_go);
	wait_state(x, 2, 3, SPAN_ABSENT);
	assert_int_equal(count(x, 1, 1, SPAN_CLEAN), 1);
	sync_gated = false;
}

static void sync_done(void *ctx, int result)
{
	drain_result = result;
}

static int do_sync(void *ctx)
{
	struct ask *a = ctx;

	flight_sync(a->x->en.flight, &a->x->layer, sync_done, NULL);
	return 0;
}

static void wait_result(int want_result)
{
	for (int i = 0; i < 2000 && drain_result == 1; i++)
		usleep(5000);
	assert_int_equal(drain_result, want_result);
}

static void who_waits_for_a_sync_gets_one_of_his_own(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x};

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 1, PRIO_DEMAND);
	sem_wait(&sync_begun);
	want(x, 2, 2, PRIO_DEMAND);
	wait_state(x, 2, 2, SPAN_DIRTY);
	loop_call(x->en.loop, do_sync, &a);
	sem_post(&sync_go);
	sem_wait(&sync_begun);
	assert_int_equal(drain_result, 1);
	sem_post(&sync_go);
	wait_result(0);
	assert_int_equal(count(x, 1, 2, SPAN_CLEAN), 2);
	sync_gated = false;
	drain_result = 1;
	sync_result = -EIO;
	want(x, 3, 3, PRIO_DEMAND);
	wait_state(x, 3, 3, SPAN_DIRTY);
	loop_call(x->en.loop, do_sync, &a);
	wait_result(-EIO);
	assert_int_equal(count(x, 3, 3, SPAN_ABSENT), 1);
	drain_result = 1;
	loop_call(x->en.loop, do_sync, &a);
	wait_result(0);
}

static int do_hit(void *ctx)
{
	struct ask *a = ctx;

	return flight_hit_ok(a->x->en.flight, &a->x->layer, a->off, a->len);
}

static int hit(struct fixture *x, uint64_t off, uint64_t len)
{
	struct ask a = {.x = x, .off = off, .len = len};

	return loop_call(x->en.loop, do_hit, &a);
}

static void lost_pages_make_the_span_absent(void **state)
{
	struct fixture *x = *state;
	uint64_t at = 2 * FIXTURE_SPAN;

	add_fetcher(x);
	sync_gated = true;
	want(x, 1, 3, PRIO_DEMAND);
	wait_state(x, 1, 3, SPAN_DIRTY);
	assert_true(hit(x, FIXTURE_SPAN, 3 * FIXTURE_SPAN));
	spoil(x, at + 8192);
	assert_true(hit(x, at, 8192));
	assert_true(hit(x, at + 12288, FIXTURE_SPAN));
	assert_false(hit(x, at - 4096, 16384));
	assert_int_equal(count(x, 2, 2, SPAN_ABSENT), 1);
	assert_int_equal(count(x, 1, 1, SPAN_DIRTY), 1);
	assert_int_equal(count(x, 3, 3, SPAN_DIRTY), 1);
	sem_post(&sync_go);
	sync_gated = false;
	wait_state(x, 1, 1, SPAN_CLEAN);
	/* What is durable is trusted. */
	spoil(x, FIXTURE_SPAN);
	assert_true(hit(x, FIXTURE_SPAN, 4096));
}

/* --- after an unclean stop --- */

static int do_unproven(void *ctx)
{
	struct ask *a = ctx;

	for (uint32_t i = a->first; i <= a->last; i++)
		span_set(&a->x->layer, i, SPAN_UNPROVEN);
	return 0;
}

static void unproven_spans_are_checked_on_first_touch(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x, .first = 0, .last = last_span(x)};

	assert_int_equal(
		__real_fd_pwrite_full(x->layer.fd_fill, x->blob.tar.data, x->blob.tar.len, 0), 0);
	spoil(x, 5 * FIXTURE_SPAN + 4096);
	loop_call(x->en.loop, do_unproven, &a);
	want(x, 0, 4, PRIO_DEMAND);
	wait_state(x, 0, 4, SPAN_DIRTY);
	/* There is no fetcher yet: nothing was fetched. */
	want(x, 5, 5, PRIO_DEMAND);
	want(x, 6, last_span(x), PRIO_FILL);
	wait_state(x, 6, last_span(x), SPAN_CLEAN);
	assert_int_equal(count(x, 5, 5, SPAN_QUEUED), 1);
	add_fetcher(x);
	wait_for(&completed, 1);
	tar_is_right(x, 0, last_span(x));
	assert_int_equal(x->en.count.filled, FIXTURE_SPAN);
}

/* --- the end of a layer --- */

static int do_drain(void *ctx)
{
	struct ask *a = ctx;

	flight_drain(a->x->en.flight, &a->x->layer, sync_done, NULL);
	return 0;
}

static void a_drained_layer_is_left_alone(void **state)
{
	struct fixture *x = *state;
	struct ask a = {.x = x};

	add_fetcher(x);
	want(x, 0, 2, PRIO_DEMAND);
	wait_state(x, 0, 2, SPAN_DIRTY);
	want(x, 0, last_span(x), PRIO_FILL);
	loop_call(x->en.loop, do_drain, &a);
	wait_result(0);
	assert_int_equal(x->layer.inflight, 0);
	assert_int_equal(x->layer.nbusy, 0);
	assert_int_equal(x->layer.ndirty, 0);
	assert_null(x->layer.sync_timer);
	assert_int_equal(count(x, 0, 2, SPAN_CLEAN), 3);
	assert_true(count(x, 0, last_span(x), SPAN_ABSENT) > 0);
}

static void a_long_stream_is_cut_off_by_a_drain(void **state)
{
	struct fixture *x = *state;
	static struct fetch_job job;
	struct ask a = {.x = x};
	int puppet = add_puppet(x);
	char c;

	want(x, 0, 0, PRIO_DEMAND);
	assert_true(puppet_job(puppet, &job, 5000));
	assert_int_equal(job.nspans, x->layer.index.nspans);
	loop_call(x->en.loop, do_drain, &a);
	wait_result(0);
	assert_true(recv(puppet, &c, 1, 0) <= 0);
	assert_int_equal(count(x, 0, last_span(x), SPAN_ABSENT), (int)x->layer.index.nspans);
	close(puppet);
}

static void latency_is_told_in_percentiles(void **state)
{
	struct fixture *x = *state;
	uint64_t p50, p99, max;

	flight_latency(x->en.flight, &p50, &p99, &max);
	assert_int_equal(p50 + p99 + max, 0);
	for (uint64_t i = 1; i <= 4096 + 904; i++)
		flight_latency_add(x->en.flight, (i <= 904 ? 9999999 : i - 904) * 1000);
	flight_latency(x->en.flight, &p50, &p99, &max);
	assert_int_equal(p50, 2048);
	assert_in_range(p99, 4050, 4060);
	assert_int_equal(max, 4096);
}

int main(void)
{
#define gzip_test(name) cmocka_unit_test_setup_teardown(name, setup_gzip, teardown)
#define zstd_test(name) cmocka_unit_test_setup_teardown(name, setup_zstd, teardown)
	const struct CMUnitTest tests[] = {
		gzip_test(demand_is_written_then_durable),
		gzip_test(a_filled_layer_becomes_complete),
		gzip_test(a_whole_that_is_not_the_layer_is_quarantined),
		zstd_test(one_frame_is_streamed_whole),
		gzip_test(neighbours_are_one_job_and_demand_is_first),
		gzip_test(background_leaves_a_fetcher_to_demand),
		gzip_test(a_queued_span_gains_priority_and_is_asked_once),
		gzip_test(wrong_bytes_condemn_the_source),
		gzip_test(another_source_is_asked_after_a_bad_one),
		gzip_test(a_host_in_trouble_is_tried_by_one),
		gzip_test(a_passing_failure_is_not_seen),
		gzip_test(a_lasting_failure_ends_at_the_deadline),
		gzip_test(a_blob_that_is_gone_is_denied_at_once),
		gzip_test(background_goes_back_to_absent),
		gzip_test(a_killed_fetcher_is_not_seen),
		gzip_test(the_third_death_fails_the_source_for_the_span),
		gzip_test(who_talks_nonsense_is_dropped),
		gzip_test(what_a_fetcher_makes_up_is_not_written),
		gzip_test(an_unsealed_buffer_is_refused),
		gzip_test(a_full_store_is_told),
		gzip_test(a_failed_sync_makes_dirty_spans_absent),
		gzip_test(a_sync_is_only_good_for_what_was_written_before_it),
		gzip_test(who_waits_for_a_sync_gets_one_of_his_own),
		gzip_test(lost_pages_make_the_span_absent),
		gzip_test(unproven_spans_are_checked_on_first_touch),
		gzip_test(a_drained_layer_is_left_alone),
		zstd_test(a_long_stream_is_cut_off_by_a_drain),
		gzip_test(latency_is_told_in_percentiles),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
