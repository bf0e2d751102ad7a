/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's end of the request socket (plugin/keep_client.c) and the messages (keep_msg.c). The
 * test is the keeper: it reads requests from the other end of the pair and answers as it likes.
 */
/* link: -Wl,--wrap=sendmsg */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/keep.h"

#define TELLS 8

/* A client, its other end, and a thread that pumps as the engine's loop does. */
struct rig {
	int engine, keeper;
	struct keep *keep;
	pthread_t pump;
	_Atomic bool stop;
	_Atomic int pumped; /* what keep_pump() returned last */
	pthread_mutex_t lock;
	uint32_t told[TELLS]; /* guarded by lock, as is the count */
	int ntold;
	int told_fd; /* of the last tell, kept */
};

static void on_tell(void *ctx, const struct keep_reply *msg, int *fds)
{
	struct rig *r = ctx;

	pthread_mutex_lock(&r->lock);
	if (r->ntold < TELLS)
		r->told[r->ntold++] = msg->op;
	if (fds[0] >= 0)
		r->told_fd = take_fd(&fds[0]);
	pthread_mutex_unlock(&r->lock);
}

/* Waits until @n were told; what they left is the caller's to read then. */
static int wait_told(struct rig *r, int n)
{
	int told = 0;

	for (int i = 0; i < 1000 && told < n; i++) {
		pthread_mutex_lock(&r->lock);
		told = r->ntold;
		pthread_mutex_unlock(&r->lock);
		if (told < n)
			usleep(10000);
	}
	return told;
}

static void *pump(void *ctx)
{
	struct rig *r = ctx;

	while (!atomic_load(&r->stop)) {
		struct pollfd p = {.fd = r->engine, .events = POLLIN};

		if (poll(&p, 1, 10) <= 0)
			continue;
		atomic_store(&r->pumped, keep_pump(r->keep));
		if (atomic_load(&r->pumped) < 0)
			break;
	}
	return NULL;
}

static int up(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	int pair[2];

	if (!r || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	r->engine = pair[0];
	r->keeper = pair[1];
	r->told_fd = -1;
	pthread_mutex_init(&r->lock, NULL);
	*state = r;
	if (keep_new(r->engine, on_tell, r, &r->keep) < 0)
		return -1;
	return pthread_create(&r->pump, NULL, pump, r);
}

static int down(void **state)
{
	struct rig *r = *state;

	atomic_store(&r->stop, true);
	pthread_join(r->pump, NULL);
	keep_free(r->keep);
	cleanup_closep(&r->engine);
	cleanup_closep(&r->keeper);
	cleanup_closep(&r->told_fd);
	pthread_mutex_destroy(&r->lock);
	free(r);
	return 0;
}

/* --- calls, each in a thread of its own --- */

struct asked {
	struct rig *r;
	pthread_t thread;
	struct keep_request req;
	struct keep_reply rep;
	struct err e;
	int fds[2], maxfds;
	int result;
};

static void *ask(void *ctx)
{
	struct asked *a = ctx;

	a->result = keep_call(a->r->keep, &a->req, &a->rep, a->fds, a->maxfds, &a->e);
	return NULL;
}

static void start(struct asked *a, struct rig *r, uint32_t op, int32_t pid)
{
	*a = (struct asked){.r = r, .req = {.op = op, .fetcher.pid = pid}, .fds = {-7, -7}};
	assert_int_equal(pthread_create(&a->thread, NULL, ask, a), 0);
}

static int finish(struct asked *a)
{
	pthread_join(a->thread, NULL);
	return a->result;
}

/* --- the keeper's end --- */

static void hear(struct rig *r, struct keep_request *rq)
{
	struct pollfd p = {.fd = r->keeper, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(keep_recvmsg(r->keeper, rq, sizeof(*rq), NULL, 0, NULL), sizeof(*rq));
}

static bool hears_more(struct rig *r)
{
	struct pollfd p = {.fd = r->keeper, .events = POLLIN};

	return poll(&p, 1, 50) == 1;
}

static void reply(struct rig *r, const struct keep_request *rq, int result, const int *fds,
		  int nfds)
{
	struct keep_reply rep = {
		.op = rq->op, .seq = rq->seq, .result = result, .nfds = (uint32_t)nfds};

	rep.fetcher.pid = rq->fetcher.pid;
	if (result < 0)
		snprintf(rep.text, sizeof(rep.text), "no %d", rq->fetcher.pid);
	assert_int_equal(keep_sendmsg(r->keeper, &rep, sizeof(rep), fds, nfds), 0);
}

static void tell(struct rig *r, uint32_t op, int fd)
{
	struct keep_reply rep = {.op = op};

	assert_int_equal(keep_sendmsg(r->keeper, &rep, sizeof(rep), &fd, fd >= 0), 0);
}

/* Has the last copy of this pipe's write end been closed? */
static bool is_closed(int read_end)
{
	struct pollfd p = {.fd = read_end, .events = POLLIN};

	return poll(&p, 1, 2000) == 1 && p.revents & POLLHUP;
}

/* --- tests --- */

static void answers_in_another_order(void **state)
{
	struct rig *r = *state;
	struct asked a[3];
	struct keep_request rq[3];

	for (int i = 0; i < 3; i++) {
		start(&a[i], r, KEEP_LIST, i);
		hear(r, &rq[i]);
	}
	assert_true(rq[0].seq < rq[1].seq && rq[1].seq < rq[2].seq && rq[0].seq > 0);
	for (int i = 2; i >= 0; i--)
		reply(r, &rq[i], i == 1 ? -ENOENT : i, NULL, 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(finish(&a[i]), i == 1 ? -ENOENT : i);
		assert_int_equal(a[i].rep.fetcher.pid, i);
	}
	assert_string_equal(a[1].e.text, "no 1");
}

static void failure_without_words(void **state)
{
	struct rig *r = *state;
	struct asked a;
	struct keep_request rq;
	struct keep_reply rep = {.result = -EBUSY};

	start(&a, r, KEEP_LIST, 0);
	hear(r, &rq);
	rep.seq = rq.seq;
	assert_int_equal(keep_sendmsg(r->keeper, &rep, sizeof(rep), NULL, 0), 0);
	assert_int_equal(finish(&a), -EBUSY);
	assert_string_equal(a.e.text, err_words(-EBUSY));
}

static void descriptors_are_handed_over(void **state)
{
	struct rig *r = *state;
	struct asked a;
	struct keep_request rq;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	a = (struct asked){.r = r, .req = {.op = KEEP_FILE_OPEN}, .maxfds = 2};
	assert_int_equal(pthread_create(&a.thread, NULL, ask, &a), 0);
	hear(r, &rq);
	reply(r, &rq, 0, &p[1], 1);
	close(p[1]);
	assert_int_equal(finish(&a), 0);
	assert_true(a.fds[0] >= 0);
	assert_int_equal(a.fds[1], -1);
	assert_true(fcntl(a.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(a.fds[0], "x", 1), 1);
	close(a.fds[0]);
	close(p[0]);
}

static void descriptors_nobody_takes_are_closed(void **state)
{
	struct rig *r = *state;
	struct keep_request rq, nobody = {.op = KEEP_LIST, .seq = 1};
	struct asked a;
	int p[3][2], two[2];

	for (int i = 0; i < 3; i++)
		assert_int_equal(pipe2(p[i], O_CLOEXEC), 0);
	/* Of a call that takes none, with an answer that fails or not; of a call nobody made. */
	start(&a, r, KEEP_FILE_OPEN, 0);
	hear(r, &rq);
	two[0] = p[0][1];
	two[1] = p[1][1];
	reply(r, &rq, 0, two, 2);
	assert_int_equal(finish(&a), 0);
	reply(r, &nobody, 0, &p[2][1], 1);
	tell(r, KEEP_TELL_STOP, -1);
	for (int i = 0; i < 3; i++) {
		close(p[i][1]);
		assert_true(is_closed(p[i][0]));
		close(p[i][0]);
	}
}

static void tells_are_passed_on(void **state)
{
	struct rig *r = *state;
	int p[2], q[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(pipe2(q, O_CLOEXEC), 0);
	tell(r, KEEP_TELL_DETACHED, -1);
	tell(r, KEEP_TELL_READY, p[1]);
	close(p[1]);
	/* The tell function left this one: it is closed behind it. */
	assert_int_equal(wait_told(r, 2), 2);
	assert_int_equal(r->told[0], KEEP_TELL_DETACHED);
	assert_int_equal(r->told[1], KEEP_TELL_READY);
	assert_true(r->told_fd >= 0);
	assert_false(hears_more(r));
	close(p[0]);
	close(q[0]);
	close(q[1]);
}

static void asked_again_after_a_new_keeper(void **state)
{
	struct rig *r = *state;
	struct keep_request rq, again;
	struct asked done, a;

	start(&done, r, KEEP_MARK, 1);
	hear(r, &rq);
	reply(r, &rq, 0, NULL, 0);
	assert_int_equal(finish(&done), 0);

	start(&a, r, KEEP_MARK, 2);
	hear(r, &rq);
	tell(r, KEEP_TELL_AGAIN, -1);
	hear(r, &again);
	assert_int_equal(again.seq, rq.seq);
	assert_memory_equal(&again, &rq, sizeof(rq));
	/* Only what has no answer: and one answer is enough, a second one is for nobody. */
	assert_false(hears_more(r));
	reply(r, &again, 7, NULL, 0);
	reply(r, &rq, 8, NULL, 0);
	assert_int_equal(finish(&a), 7);
	assert_int_equal(r->ntold, 0);
}

static void keep_send_does_not_wait(void **state)
{
	struct rig *r = *state;
	struct keep_request req = {.op = KEEP_STOPPED}, rq;
	int n = 0, rc = 0;

	while (n < 100000 && (rc = keep_send(r->keep, &req)) == 0)
		n++;
	assert_int_equal(rc, -EAGAIN);
	assert_true(n > 0);
	hear(r, &rq);
	assert_int_equal(rq.op, KEEP_STOPPED);
	assert_true(rq.seq > 0);
}

static void nobody_is_left(void **state)
{
	struct rig *r = *state;
	struct keep_request rq;
	struct asked a, late;

	start(&a, r, KEEP_LIST, 0);
	hear(r, &rq);
	cleanup_closep(&r->keeper);
	r->keeper = -1;
	assert_int_equal(finish(&a), -EPIPE);
	pthread_join(r->pump, NULL);
	assert_int_equal(atomic_load(&r->pumped), -EPIPE);
	start(&late, r, KEEP_LIST, 0);
	assert_int_equal(finish(&late), -EPIPE);
	assert_int_equal(pthread_create(&r->pump, NULL, pump, r), 0);
}

static void short_message_is_an_error(void **state)
{
	struct rig *r = *state;

	assert_int_equal(keep_sendmsg(r->keeper, "x", 1, NULL, 0), 0);
	pthread_join(r->pump, NULL);
	assert_int_equal(atomic_load(&r->pumped), -EPROTO);
	assert_int_equal(pthread_create(&r->pump, NULL, pump, r), 0);
}

static void too_many_descriptors(void **state)
{
	struct rig *r = *state;
	int fds[KEEP_FDS_MAX + 1] = {0};

	assert_int_equal(keep_sendmsg(r->keeper, "x", 1, fds, KEEP_FDS_MAX + 1), -EINVAL);
}

/*
 * As many calls at once as fill the socket many times over, and a keeper that does one after the
 * other and waits while its answers are not taken.
 */
#define CROWD 250

static void *one_by_one(void *ctx)
{
	struct rig *r = ctx;

	for (int i = 0; i < CROWD; i++) {
		struct keep_request rq;
		struct keep_reply rep = {.op = KEEP_LIST};

		if (keep_recvmsg(r->keeper, &rq, sizeof(rq), NULL, 0, NULL) != sizeof(rq))
			return NULL;
		rep.seq = rq.seq;
		rep.fetcher.pid = rq.fetcher.pid;
		if (keep_sendmsg(r->keeper, &rep, sizeof(rep), NULL, 0) < 0)
			return NULL;
	}
	return r;
}

static void a_crowd_is_served(void **state)
{
	static struct asked a[CROWD];
	struct rig *r = *state;
	pthread_t keeper;
	void *all;

	for (int i = 0; i < CROWD; i++)
		start(&a[i], r, KEEP_LIST, i);
	usleep(100000); /* all of them at the socket */
	assert_int_equal(pthread_create(&keeper, NULL, one_by_one, r), 0);
	alarm(20);
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(finish(&a[i]), 0);
		assert_int_equal(a[i].rep.fetcher.pid, i);
	}
	pthread_join(keeper, &all);
	assert_ptr_equal(all, r);
	alarm(0);
}

/* The kernel has no buffer at this moment, twice. */
static _Atomic int no_buffers;

ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (atomic_load(&no_buffers) > 0 && atomic_fetch_sub(&no_buffers, 1) > 0) {
		errno = ENOBUFS;
		return -1;
	}
	return __real_sendmsg(fd, m, flags);
}

static void no_message_is_lost_for_lack_of_buffers(void **state)
{
	int pair[2];
	char text[8] = "";

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	atomic_store(&no_buffers, 2);
	assert_int_equal(keep_sendmsg(pair[0], "word", 4, NULL, 0), 0);
	assert_int_equal(keep_recvmsg(pair[1], text, sizeof(text), NULL, 0, NULL), 4);
	assert_string_equal(text, "word");
	close(pair[0]);
	close(pair[1]);
}

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(answers_in_another_order),
		RIGGED(failure_without_words),
		RIGGED(descriptors_are_handed_over),
		RIGGED(descriptors_nobody_takes_are_closed),
		RIGGED(tells_are_passed_on),
		RIGGED(asked_again_after_a_new_keeper),
		RIGGED(keep_send_does_not_wait),
		RIGGED(nobody_is_left),
		RIGGED(short_message_is_an_error),
		RIGGED(too_many_descriptors),
		RIGGED(a_crowd_is_served),
		cmocka_unit_test(no_message_is_lost_for_lack_of_buffers),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("keep", tests, NULL, NULL);
}
