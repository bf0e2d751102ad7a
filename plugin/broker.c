/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker_internal.h"
#include "plugin/log.h"
#include "plugin/spawn.h"
#include "plugin/store/files.h"

#define RESPAWN_MS 100 /* until a fetcher that ended is replaced */

/* --- files --- */

static int do_file_open(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd = store_file_open(b->ward->fd_store, &rq->file, O_RDONLY, &a->err);

	return fd < 0 ? fd : answer_fd(a, fd);
}

/* A mounted layer's tar and image are what the kernel reads: they are never replaced. */
static bool is_mounted(struct broker *b, const struct keep_file *f)
{
	return (f->kind == KEEP_TAR || f->kind == KEEP_IMAGE) &&
	       broker_layer(b, &f->key, &f->scope);
}

static int do_file_create(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd;

	if (is_mounted(b, &rq->file))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	fd = store_file_create(b->ward->fd_store, &rq->file, &a->err);
	return fd < 0 ? fd : answer_fd(a, fd);
}

static int do_file_publish(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	if (is_mounted(b, &rq->file))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	return store_file_publish(b->ward->fd_store, &rq->file, &a->err);
}

static int do_file_drop(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	return store_file_drop(b->ward->fd_store, &rq->file, &a->err);
}

static int do_layer_drop(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	if (broker_layer(b, &rq->layer.diff_id, &rq->layer.scope))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	return store_layer_drop(b->ward->fd_store, &rq->layer.diff_id, &rq->layer.scope, &a->err);
}

static int do_list(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd = store_list(b->ward->fd_store, rq->list.kind, &a->err);

	return fd < 0 ? fd : answer_fd(a, fd);
}

static int do_layout_open(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd = store_layout_open(&rq->layout, &a->err);

	return fd < 0 ? fd : answer_fd(a, fd);
}

static int do_container_drop(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	broker_drain_inotify(b);
	for (int i = 0; i < WARD_ATTACHED; i++) {
		const struct ward_attached *at = &b->ward->attached[i];

		if (atomic_load(&at->state) == WARD_LIVE &&
		    !strncmp(at->id, rq->container.id, LIMIT_ID))
			return err_set(&a->err, -EBUSY, "container %.*s: its root file system is "
				       "still mounted", LIMIT_ID, rq->container.id);
	}
	return store_container_drop(b->ward->fd_store, rq->container.id, &a->err);
}

/* --- fetchers --- */

static struct ward_fetcher *fetcher_free_slot(struct broker *b)
{
	for (int i = 0; i < WARD_FETCHERS; i++)
		if (!b->ward->fetcher[i].pid)
			return &b->ward->fetcher[i];
	return NULL;
}

static void fetcher_exited(void *ctx, uint32_t events);

static int fetcher_watch(struct broker *b, struct ward_fetcher *f)
{
	struct fetcher_watch *w = &b->watch[f - b->ward->fetcher];

	w->broker = b;
	w->fetcher = f;
	return loop_add_io(b->loop, f->pidfd, EPOLLIN, false, fetcher_exited, w, &w->io);
}

static int fetcher_start(struct broker *b, bool pooled, int fds[2], int32_t *ret_pid,
			 struct err *e)
{
	struct ward_fetcher *f = fetcher_free_slot(b);
	pid_t pid;
	int pidfd;

	if (!f)
		return err_set(e, -EAGAIN, "too many fetchers at once");
	pid = spawn_fetcher(&b->birth, &pidfd, &fds[0], &fds[1], e);
	if (pid < 0)
		return pid;
	f->pidfd = pidfd;
	f->pooled = pooled;
	f->pid = pid;
	fetcher_watch(b, f);
	*ret_pid = pid;
	return 0;
}

static uint32_t pool_size(const struct broker *b)
{
	uint32_t n = b->birth.slots->settings.fetchers;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (n == 0)
		n = cpus > 2 ? 2 * (uint32_t)cpus : 4;
	return n < WARD_FETCHERS / 2 ? n : WARD_FETCHERS / 2;
}

static uint32_t pool_count(const struct broker *b)
{
	uint32_t n = 0;

	for (int i = 0; i < WARD_FETCHERS; i++)
		n += b->ward->fetcher[i].pid && b->ward->fetcher[i].pooled;
	return n;
}

/* Tells the engine of one more fetcher for its pool, unless that is full. */
static void pool_one(void *ctx)
{
	struct broker *b = ctx;
	struct answer a = { .nfds = 0 };
	int fds[2];

	if (b->finishing || pool_count(b) >= pool_size(b))
		return;
	if (fetcher_start(b, true, fds, &a.rep.fetcher.pid, &a.err) < 0) {
		log_error("%s", a.err.text);
		loop_after(b->loop, 10 * RESPAWN_MS, pool_one, b, NULL);
		return;
	}
	a.fds[0] = fds[0];
	a.fds[1] = fds[1];
	a.nfds = 2;
	broker_tell(b, KEEP_TELL_FETCHER, &a);
}

static void fetcher_exited(void *ctx, uint32_t events)
{
	struct fetcher_watch *w = ctx;
	struct broker *b = w->broker;
	struct ward_fetcher *f = w->fetcher;
	bool pooled = f->pooled;

	w->io = loop_remove_io(w->io);
	/* Not our child when an earlier keeper made it: then the guardian reaps it. */
	waitid(P_PIDFD, (id_t)f->pidfd, NULL, WEXITED | WNOHANG);
	f->pooled = 0;
	f->pid = 0; /* off the record, then closed: see ward_close() */
	ward_close(&f->pidfd);
	if (pooled && !b->finishing)
		loop_after(b->loop, RESPAWN_MS, pool_one, b, NULL);
}

/* They leave the table when their ends are seen. */
static void fetchers_end(struct broker *b)
{
	for (int i = 0; i < WARD_FETCHERS; i++) {
		struct ward_fetcher *f = &b->ward->fetcher[i];

		if (!f->pid)
			continue;
		syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
		f->pooled = 0;
	}
}

static int do_fetcher(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fds[2], r = fetcher_start(b, false, fds, &a->rep.fetcher.pid, &a->err);

	if (r < 0)
		return r;
	a->fds[0] = fds[0];
	a->fds[1] = fds[1];
	a->nfds = 2;
	return 0;
}

static int do_fetcher_gone(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	for (int i = 0; i < WARD_FETCHERS; i++) {
		const struct ward_fetcher *f = &b->ward->fetcher[i];

		/* Only our own fetchers, and by pidfd: a number may belong to somebody else now. */
		if (f->pid && f->pid == rq->fetcher.pid)
			syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
	}
	return 0;
}

/* --- a new engine --- */

static int tell_layers(struct broker *b, struct err *e)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &b->ward->layer[i];
		struct answer a = { .nfds = 0 };

		if (atomic_load(&l->state) != WARD_LIVE)
			continue;
		if (broker_describe_layer(b, l, &a) < 0)
			return err_set(e, a.err.code, "%s", a.err.text);
		broker_tell(b, KEEP_TELL_LAYER, &a);
	}
	for (int i = 0; i < WARD_ATTACHED; i++) {
		struct answer a = { .nfds = 0 };

		if (atomic_load(&b->ward->attached[i].state) != WARD_LIVE)
			continue;
		broker_describe_attached(b, &b->ward->attached[i], &a);
		broker_tell(b, KEEP_TELL_ATTACHED, &a);
	}
	return 0;
}

static void tell_stop(void *ctx)
{
	struct answer a = { .nfds = 0 };

	broker_tell(ctx, KEEP_TELL_STOP, &a);
}

static int do_hello(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct answer begin = { .nfds = 0 }, ready = { .nfds = 0 };
	int r;

	/* Whatever the last engine's fetchers are doing is for nobody. */
	fetchers_end(b);
	begin.rep.engine.pid = rq->engine.pid;
	broker_tell(b, KEEP_TELL_BEGIN, &begin);
	r = tell_layers(b, &a->err);
	if (r < 0)
		return r;
	for (uint32_t i = pool_size(b); i > 0; i--)
		pool_one(b);
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
	[KEEP_HELLO] = { do_hello, true },
	[KEEP_FILE_OPEN] = { do_file_open, true },
	[KEEP_FILE_CREATE] = { do_file_create, true },
	[KEEP_FILE_PUBLISH] = { do_file_publish, true },
	[KEEP_FILE_DROP] = { do_file_drop, true },
	[KEEP_LAYER_DROP] = { do_layer_drop, false },
	[KEEP_LIST] = { do_list, true },
	[KEEP_LAYOUT_OPEN] = { do_layout_open, false },
	[KEEP_LAYER_MOUNT] = { broker_layer_mount, false },
	[KEEP_LAYER_UMOUNT] = { broker_layer_umount, true },
	[KEEP_MARK] = { broker_mark, true },
	[KEEP_EXEC_MARK] = { broker_exec_mark, true },
	[KEEP_LEASE] = { broker_lease, false },
	[KEEP_ATTACH] = { broker_attach, false },
	[KEEP_DETACH_DONE] = { do_container_drop, false },
	[KEEP_FETCHER] = { do_fetcher, false },
	[KEEP_FETCHER_GONE] = { do_fetcher_gone, true },
	[KEEP_STOPPED] = { do_stopped, true },
};

int answer_fd(struct answer *a, int fd)
{
	a->fds[a->nfds++] = fd;
	return 0;
}

static void send_answer(struct broker *b, struct answer *a)
{
	a->rep.nfds = (uint32_t)a->nfds;
	if (a->rep.result < 0)
		snprintf(a->rep.text, sizeof(a->rep.text), "%.255s", a->err.text);
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

static void on_request(void *ctx, uint32_t events)
{
	struct broker *b = ctx;
	struct keep_request rq;
	struct answer a = { .nfds = 0 };
	ssize_t n = keep_recvmsg(b->ward->fd_keep, &rq, sizeof(rq), NULL, 0, NULL);

	if (n < 0)
		return;
	if (n != sizeof(rq)) {
		log_error("a request of %zd bytes from the engine was dropped", n);
		return;
	}
	a.rep.op = rq.op;
	a.rep.seq = rq.seq;
	a.rep.result = run_request(b, &rq, &a);
	send_answer(b, &a);
}

void broker_drain_inotify(struct broker *b)
{
	char raw[4096] __attribute__((aligned(8)));
	ssize_t n;

	while ((n = read(b->ward->fd_inotify, raw, sizeof(raw))) > 0) {
		for (ssize_t at = 0; at < n; ) {
			const struct inotify_event *ev = (const void *)(raw + at);

			/* IGNORED is the last word about a watch; it follows UNMOUNT. */
			if (ev->mask & IN_IGNORED)
				broker_detached(b, ev->wd);
			at += (ssize_t)(sizeof(*ev) + ev->len);
		}
	}
}

static void on_inotify(void *ctx, uint32_t events)
{
	broker_drain_inotify(ctx);
}

/* --- start and end --- */

static void *broker_thread(void *ctx)
{
	struct broker *b = ctx;
	struct answer again = { .nfds = 0 };

	broker_recover_detached(b);
	/* What an earlier keeper had read and not answered is asked again. */
	broker_tell(b, KEEP_TELL_AGAIN, &again);
	loop_run(b->loop);
	return NULL;
}

static int broker_watch(struct broker *b)
{
	int r = loop_add_io(b->loop, b->ward->fd_keep, EPOLLIN, false, on_request, b, &b->io_keep);

	if (r == 0)
		r = loop_add_io(b->loop, b->ward->fd_inotify, EPOLLIN, false, on_inotify, b,
				&b->io_inotify);
	for (int i = 0; i < WARD_FETCHERS && r == 0; i++)
		if (b->ward->fetcher[i].pid)
			r = fetcher_watch(b, &b->ward->fetcher[i]);
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

static void finish(void *ctx)
{
	struct errand *e = ctx;

	e->broker->finishing = true;
	fetchers_end(e->broker);
	e->result = broker_umount_idle(e->broker) ? KEEPER_STAY : KEEPER_STOPPED;
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
