/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker_internal.h"
#include "plugin/log.h"

/* --- a new engine --- */

static int tell_layers(struct broker *b, struct err *e)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &b->ward->layer[i];
		struct answer a = {.nfds = 0};

		if (atomic_load(&l->state) != WARD_LIVE)
			continue;
		if (broker_describe_layer(b, l, &a) < 0)
			return err_take(e, a.err.code, a.err.text, &a.err.links);
		broker_tell(b, KEEP_TELL_LAYER, &a);
	}
	for (int i = 0; i < WARD_ATTACHED; i++) {
		struct answer a = {.nfds = 0};

		if (atomic_load(&b->ward->attached[i].state) != WARD_LIVE)
			continue;
		broker_describe_attached(b, &b->ward->attached[i], &a);
		broker_tell(b, KEEP_TELL_ATTACHED, &a);
	}
	return 0;
}

static void tell_stop(void *ctx)
{
	struct answer a = {.nfds = 0};

	broker_tell(ctx, KEEP_TELL_STOP, &a);
}

static int do_hello(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct answer begin = {.nfds = 0}, ready = {.nfds = 0};
	int r;

	/* Whatever the last engine's fetchers are doing is for nobody. */
	broker_fetchers_end(b);
	begin.rep.engine.pid = rq->engine.pid;
	broker_tell(b, KEEP_TELL_BEGIN, &begin);
	r = tell_layers(b, &a->err);
	if (r < 0)
		return r;
	broker_fetchers_begin(b);
	ready.fds[0] = fcntl(b->ward->fd_listen, F_DUPFD_CLOEXEC, 0);
	ready.nfds = ready.fds[0] >= 0;
	broker_tell(b, KEEP_TELL_READY, &ready);
	/* The engine that was told first may have died over it. */
	if (atomic_load(&b->ward->stopping))
		tell_stop(b);
	return 0;
}

static int do_stopped(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	return 0; /* the engine's end is seen by its anchor */
}

/* --- the table of permitted requests --- */

static const struct request {
	int (*run)(struct broker *b, const struct keep_request *rq, struct answer *a);
	bool while_stopping; /* still permitted after the engine was told to stop */
} requests[] = {
	[KEEP_HELLO] = {do_hello, true},
	[KEEP_FILE_OPEN] = {broker_file_open, true},
	[KEEP_FILE_CREATE] = {broker_file_create, true},
	[KEEP_FILE_PUBLISH] = {broker_file_publish, true},
	[KEEP_FILE_DROP] = {broker_file_drop, true},
	[KEEP_LAYER_DROP] = {broker_layer_drop, false},
	[KEEP_LIST] = {broker_list, true},
	[KEEP_LAYOUT_OPEN] = {broker_layout_open, false},
	[KEEP_LAYER_MOUNT] = {broker_layer_mount, false},
	[KEEP_LAYER_UMOUNT] = {broker_layer_umount, true},
	[KEEP_MARK] = {broker_mark, true},
	[KEEP_EXEC_MARK] = {broker_exec_mark, true},
	[KEEP_LEASE] = {broker_lease, false},
	[KEEP_ATTACH] = {broker_attach, false},
	[KEEP_DETACH_DONE] = {broker_container_drop, false},
	[KEEP_FETCHER] = {broker_fetcher, false},
	[KEEP_FETCHER_GONE] = {broker_fetcher_gone, true},
	[KEEP_STOPPED] = {do_stopped, true},
};

int answer_fd(struct answer *a, int fd)
{
	a->fds[a->nfds++] = fd;
	return 0;
}

static void send_answer(struct broker *b, struct answer *a)
{
	a->rep.nfds = (uint32_t)a->nfds;
	if (a->rep.result < 0) {
		snprintf(a->rep.text, sizeof(a->rep.text), "%.255s", a->err.text);
		a->rep.links = a->err.links;
	}
	keep_sendmsg(b->ward->fd_keep, &a->rep, sizeof(a->rep), a->fds, a->nfds);
	for (int i = 0; i < a->nfds; i++)
		close(a->fds[i]);
	a->nfds = 0;
}

void broker_tell(struct broker *b, uint32_t op, struct answer *a)
{
	a->rep.op = op;
	a->rep.seq = 0;
	a->rep.result = 0;
	send_answer(b, a);
}

static int run_request(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	const struct request *r = rq->op < ARRAY_LEN(requests) ? &requests[rq->op] : NULL;

	if (!r || !r->run)
		return err_set(&a->err, -EINVAL, "the keeper knows no request %u", rq->op);
	if (!r->while_stopping && atomic_load(&b->ward->stopping))
		return err_set(&a->err, -ESHUTDOWN, "tarnd is stopping");
	return r->run(b, rq, a);
}

void broker_request(void *ctx, uint32_t events)
{
	struct broker *b = ctx;
	/* Room for more than a request: what is longer is seen to be, and not cut to fit. */
	struct {
		struct keep_request rq;
		uint8_t more;
	} m;
	struct answer a = {.nfds = 0};
	ssize_t n = keep_recvmsg(b->ward->fd_keep, &m, sizeof(m), NULL, 0, NULL);

	if (n < 0)
		return;
	if (n != sizeof(m.rq)) {
		log_error("a request of %zd bytes from the engine was dropped", n);
		return;
	}
	a.rep.op = m.rq.op;
	a.rep.seq = m.rq.seq;
	a.rep.result = run_request(b, &m.rq, &a);
	send_answer(b, &a);
}

static void on_inotify(void *ctx, uint32_t events)
{
	broker_drain_inotify(ctx);
}

/* --- start and end --- */

static void *broker_thread(void *ctx)
{
	struct broker *b = ctx;
	struct answer again = {.nfds = 0};

	broker_recover_detached(b);
	broker_find_lost(b);
	/* What an earlier keeper had read and not answered is asked again. */
	broker_tell(b, KEEP_TELL_AGAIN, &again);
	broker_fetchers_resume(b);
	loop_run(b->loop);
	return NULL;
}

static int broker_watch(struct broker *b)
{
	int r = loop_add_io(b->loop, b->ward->fd_keep, EPOLLIN, false, broker_request, b,
			    &b->io_keep);

	if (r == 0)
		r = loop_add_io(b->loop, b->ward->fd_inotify, EPOLLIN, false, on_inotify, b,
				&b->io_inotify);
	for (int i = 0; i < WARD_FETCHERS && r == 0; i++)
		if (b->ward->fetcher[i].pid)
			r = broker_fetcher_watch(b, &b->ward->fetcher[i]);
	return r;
}

int broker_start(const struct birth *birth, struct broker **ret, struct err *e)
{
	struct broker *b = calloc(1, sizeof(*b));
	int r = -ENOMEM;

	if (b) {
		b->birth = *birth;
		b->ward = birth->ward;
		broker_recover(b);
		r = loop_new(&b->loop);
	}
	if (r == 0)
		r = broker_watch(b);
	if (r == 0)
		r = -pthread_create(&b->thread, NULL, broker_thread, b);
	if (r < 0)
		return err_errno(e, r, "starting the keeper");
	*ret = b;
	return 0;
}

void broker_stop_engine(struct broker *b)
{
	loop_post(b->loop, tell_stop, b);
}

/* What the main thread wants done here, and then on its own loop. */
struct errand {
	struct broker *broker;
	struct loop *loop;
	int (*fn)(void *ctx);
	int (*done)(void *ctx, int result);
	void *ctx;
	int result;
};

static void send_errand(const struct errand *what, void (*run)(void *ctx))
{
	struct errand *e = malloc(sizeof(*e));

	if (e)
		*e = *what;
	if (!e || loop_post(what->broker->loop, run, e) < 0) {
		log_error("out of memory");
		_exit(EXIT_FAILURE); /* the next keeper tries again */
	}
}

static void tell_done(void *ctx)
{
	struct errand *e = ctx;

	e->done(e->ctx, e->result);
	free(e);
}

/* Returns how many are left. */
static unsigned umount_idle(struct broker *b)
{
	unsigned left = 0;

	broker_drain_inotify(b);
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &b->ward->layer[i];

		if (atomic_load(&l->state) == WARD_LIVE && broker_layer_take_down(b, l) < 0)
			left++;
	}
	return left;
}

static void finish(void *ctx)
{
	struct errand *e = ctx;

	e->broker->finishing = true;
	broker_fetchers_end(e->broker);
	e->result = umount_idle(e->broker) ? KEEPER_STAY : KEEPER_STOPPED;
	if (loop_post(e->loop, tell_done, e) < 0)
		_exit(EXIT_FAILURE);
}

void broker_finish(struct broker *b, struct loop *loop, int (*done)(void *ctx, int result),
		   void *ctx)
{
	send_errand(&(struct errand){.broker = b, .loop = loop, .done = done, .ctx = ctx}, finish);
}

static void stand_still(void *ctx)
{
	struct errand *e = ctx;

	loop_call(e->loop, e->fn, e->ctx);
	free(e);
}

void broker_stand_still(struct broker *b, struct loop *loop, int (*fn)(void *ctx), void *ctx)
{
	send_errand(&(struct errand){.broker = b, .loop = loop, .fn = fn, .ctx = ctx}, stand_still);
}
