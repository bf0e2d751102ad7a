/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's processes: the pool of fetchers, and those that are asked for one by one. */
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker_internal.h"
#include "plugin/log.h"
#include "plugin/spawn.h"

#define RESPAWN_MS 100 /* until a fetcher that ended is replaced */

static struct ward_fetcher *fetcher_free_slot(struct broker *b)
{
	for (int i = 0; i < WARD_FETCHERS; i++)
		if (!b->ward->fetcher[i].pid)
			return &b->ward->fetcher[i];
	return NULL;
}

static void fetcher_exited(void *ctx, uint32_t events);

int broker_fetcher_watch(struct broker *b, struct ward_fetcher *f)
{
	struct fetcher_watch *w = &b->watch[f - b->ward->fetcher];

	w->broker = b;
	w->fetcher = f;
	return loop_add_io(b->loop, f->pidfd, EPOLLIN, false, fetcher_exited, w, &w->io);
}

/* Its end would not be seen, so it is brought about at once. (The keeper's tick reaps it.) */
static void unwatched(struct ward_fetcher *f, int fds[2])
{
	syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
	f->pooled = 0;
	f->pid = 0;
	ward_close(&f->pidfd);
	cleanup_closep(&fds[0]);
	cleanup_closep(&fds[1]);
}

static int fetcher_start(struct broker *b, bool pooled, int fds[2], int32_t *ret_pid, struct err *e)
{
	struct ward_fetcher *f = fetcher_free_slot(b);
	int pidfd, r;
	pid_t pid;

	if (!f)
		return err_set(e, -EAGAIN, "too many fetchers at once");
	pid = spawn_fetcher(&b->birth, &pidfd, &fds[0], &fds[1], e);
	if (pid < 0)
		return pid;
	f->pidfd = pidfd;
	f->pooled = pooled;
	f->pid = pid;
	r = broker_fetcher_watch(b, f);
	if (r < 0) {
		unwatched(f, fds);
		return err_errno(e, r, "watching a fetcher");
	}
	*ret_pid = pid;
	return 0;
}

static uint32_t pool_size(const struct broker *b)
{
	uint32_t n = b->ward->settings.fetchers;
	uint32_t most = b->birth.descriptors / 16; /* each is one of the engine's */
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (n == 0)
		n = cpus > 2 ? 2 * (uint32_t)cpus : 4;
	n = n < most ? n : most;
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
	struct answer a = {.nfds = 0};
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
void broker_fetchers_end(struct broker *b)
{
	b->ward->pooling = 0;
	for (int i = 0; i < WARD_FETCHERS; i++) {
		struct ward_fetcher *f = &b->ward->fetcher[i];

		if (!f->pid)
			continue;
		syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
		f->pooled = 0;
	}
}

int broker_fetcher(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fds[2], r = fetcher_start(b, false, fds, &a->rep.fetcher.pid, &a->err);

	if (r < 0)
		return r;
	a->fds[0] = fds[0];
	a->fds[1] = fds[1];
	a->nfds = 2;
	return 0;
}

int broker_fetcher_gone(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	for (int i = 0; i < WARD_FETCHERS; i++) {
		const struct ward_fetcher *f = &b->ward->fetcher[i];

		/* Only our own fetchers, and by pidfd: a number may belong to somebody else now. */
		if (f->pid && f->pid == rq->fetcher.pid)
			syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
	}
	return 0;
}

void broker_fetchers_begin(struct broker *b)
{
	b->ward->pooling = 1;
	for (uint32_t i = pool_size(b); i > 0; i--)
		pool_one(b);
}

void broker_fetchers_resume(struct broker *b)
{
	if (b->ward->pooling)
		broker_fetchers_begin(b);
}
