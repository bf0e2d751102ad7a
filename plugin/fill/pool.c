/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/loop.h"

/*
 * A fetcher says something at least once a span. The slowest line we still serve brings a span
 * in this time (4 MiB in a minute: 70 KB/s); whoever is silent longer hangs.
 */
#define SILENCE_MS 60000u
/* A span that takes longer than this may have to make way for another host's. */
#define RECLAIM_MS 3000u
/* A span takes less than this from a source worth waiting for when a layer is to go. */
#define HALT_MS 1000u

struct end_work {
	struct work w;
	struct keep *keep; /* borrowed */
	int32_t pid;
};

static void end_run(struct work *w, void *scratch)
{
	const struct end_work *d = (const struct end_work *)w;
	struct keep_request req = {.op = KEEP_FETCHER_GONE, .fetcher.pid = d->pid};
	struct keep_reply rep;
	struct err e = ERR_INIT;

	if (keep_call(d->keep, &req, &rep, NULL, 0, &e) < 0)
		log_warn("fetcher %" PRId32 " may still be there: %s", d->pid, e.text);
}

static void end_done(struct work *w)
{
	free(w);
}

/*
 * One that is well exits when its socket closes. One that hangs must be ended, or another never
 * takes its place.
 */
static void end_process(struct flight *f, int32_t pid)
{
	struct end_work *d = f->closing ? NULL : calloc(1, sizeof(*d));

	if (!d)
		return;
	*d = (struct end_work){
		.w = {.run = end_run, .done = end_done}, .keep = f->en->keep, .pid = pid};
	workers_submit(f->workers, &d->w, WORK_KEEPER);
}

static void drop_silently(struct flight *f, struct fetcher *fe)
{
	struct fetcher **at = &f->fetchers;

	while (*at != fe)
		at = &(*at)->next;
	*at = fe->next;
	f->nfetchers--;
	fe->io = loop_remove_io(fe->io);
	/* The number stays taken until no worker can write to it any more. */
	shutdown(fe->sock, SHUT_RDWR);
	end_process(f, fe->pid);
	fetcher_unref(fe);
}

void fetcher_unref(struct fetcher *fe)
{
	if (--fe->refs > 0)
		return;
	munmap((void *)fe->buffer, FETCH_BUFFER_SIZE);
	cleanup_closep(&fe->sock);
	free(fe);
}

void pool_drop(struct flight *f, struct fetcher *fe, int code, const char *why)
{
	struct run run = fe->run;

	if (why)
		log_warn("fetcher %" PRId32 ": %s", fe->pid, why);
	fe->run.layer = NULL;
	drop_silently(f, fe);
	if (run.layer && f->closing)
		run.layer->inflight--;
	else if (run.layer)
		run_failed(f, &run, code, why, 0);
}

/* --- what fetchers say --- */

static bool hear_span(struct flight *f, struct fetcher *fe, const struct fetch_note *n)
{
	struct run *run = &fe->run;

	if (n->slot >= FETCH_SLOTS || run->next >= run->end || n->span != run->next ||
	    n->len != index_span_len(&run->layer->index, n->span))
		return false;
	if (n->received >= run->received && n->received <= run->bytes) {
		f->en->count.fetched += n->received - run->received;
		run->received = n->received;
	}
	run->next++;
	span_work_write(f, fe, n->slot, n->span);
	return true;
}

static bool hear_end(struct flight *f, struct fetcher *fe, struct fetch_note *n)
{
	struct run run = fe->run;

	if (n->op == FETCH_DONE ? run.next != run.end : n->code >= 0 || n->code < -4095)
		return false;
	if (n->code == -ECANCELED) /* only we may say that */
		n->code = -EPROTO;
	fe->run.layer = NULL;
	n->text[sizeof(n->text) - 1] = '\0';
	for (char *c = n->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	if (n->op == FETCH_DONE)
		run_end(f, &run);
	else
		run_failed(f, &run, n->code, n->text, n->retry_after_s);
	return true;
}

/* False: it is not what a fetcher may say now. */
static bool hear(struct flight *f, struct fetcher *fe, struct fetch_note *n)
{
	if (!fe->run.layer || n->id != fe->run.id)
		return false;
	fe->run.heard_ms = clock_ms();
	switch (n->op) {
	case FETCH_SPAN:
		return hear_span(f, fe, n);
	case FETCH_DONE:
	case FETCH_FAIL:
		return hear_end(f, fe, n);
	default:
		return false;
	}
}

/* #syscalls engine: recvfrom */
static void readable(void *ctx, uint32_t events)
{
	struct fetcher *fe = ctx;
	struct flight *f = fe->flight;
	struct fetch_note note;

	for (unsigned i = 0; i < FETCH_SLOTS + 1; i++) {
		ssize_t n = recv(fe->sock, &note, sizeof(note), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* It died with words of ours unread: that is said once, before its last words. */
		if (n < 0 && errno == ECONNRESET)
			continue;
		if (n <= 0) {
			pool_drop(f, fe, 0, fe->run.layer ? "it died at work" : NULL);
			return;
		}
		if (n != sizeof(note) || !hear(f, fe, &note)) {
			pool_drop(f, fe, 0, "it sent nonsense");
			return;
		}
	}
}

/* --- the pool --- */

/* #syscalls engine: fcntl@1=F_GET_SEALS fstat newfstatat */
static int check_buffer(int fd)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (fstat(fd, &st) < 0)
		return -errno;
	/* Were it cut short under our hands, reading it would be SIGBUS. */
	if (st.st_size != (off_t)FETCH_BUFFER_SIZE || seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	return 0;
}

/*
 * Neither a worker nor the loop may ever wait for a fetcher to read.
 * #syscalls engine: fcntl@1=F_GETFL fcntl@1=F_SETFL
 */
static int open_fetcher(struct fetcher *fe, int buffer_fd)
{
	int flags = fcntl(fe->sock, F_GETFL);
	int r = check_buffer(buffer_fd);
	void *p;

	if (r < 0)
		return r;
	if (flags < 0 || fcntl(fe->sock, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	p = mmap(NULL, FETCH_BUFFER_SIZE, PROT_READ, MAP_SHARED, buffer_fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	fe->buffer = p;
	return 0;
}

int flight_add_fetcher(struct flight *f, int sock, int buffer_fd, int32_t pid)
{
	_cleanup_fd_ int own_sock = sock;
	_cleanup_fd_ int own_buffer = buffer_fd;
	_cleanup_free_ struct fetcher *fe = calloc(1, sizeof(*fe));
	int r;

	if (!fe)
		return -ENOMEM;
	fe->flight = f;
	fe->refs = 1;
	fe->pid = pid;
	fe->sock = sock;
	r = open_fetcher(fe, own_buffer);
	if (r < 0)
		return r;
	r = loop_add_io(f->en->loop, sock, EPOLLIN, false, readable, fe, &fe->io);
	if (r < 0) {
		munmap((void *)fe->buffer, FETCH_BUFFER_SIZE);
		return r;
	}
	take_fd(&own_sock);
	fe->next = f->fetchers;
	f->fetchers = take_ptr(fe);
	f->nfetchers++;
	flight_kick(f);
	return 0;
}

struct fetcher *pool_idle(struct flight *f, enum prio prio)
{
	struct fetcher *idle = NULL;
	uint32_t background = 0;

	for (struct fetcher *fe = f->fetchers; fe; fe = fe->next) {
		if (!fe->run.layer)
			idle = fe;
		else if (fe->run.prio != PRIO_DEMAND)
			background++;
	}
	/* One is kept for demand; but the only one there is must serve everybody. */
	if (prio != PRIO_DEMAND && background + 1 >= f->nfetchers && f->nfetchers > 1)
		return NULL;
	return idle;
}

bool pool_start(struct flight *f, struct fetcher *fe, const struct run *run, int fd)
{
	if (keep_sendmsg(fe->sock, &f->job, sizeof(f->job), &fd, fd >= 0 ? 1 : 0) < 0) {
		pool_drop(f, fe, 0, "it takes no jobs");
		return false;
	}
	fe->run = *run;
	fe->run.heard_ms = clock_ms();
	return true;
}

static uint64_t silence_ms(const struct flight *f)
{
	uint64_t two_deadlines = 2 * settings_patience_ms(&f->en->slots->settings);

	return two_deadlines > SILENCE_MS ? two_deadlines : SILENCE_MS;
}

void pool_watch(struct flight *f)
{
	uint64_t now = clock_ms(), most = silence_ms(f), next = UINT64_MAX;

	for (struct fetcher *fe = f->fetchers, *after; fe; fe = after) {
		after = fe->next;
		if (!fe->run.layer)
			continue;
		if (now - fe->run.heard_ms >= most)
			pool_drop(f, fe, 0, "it hangs");
		else if (fe->run.heard_ms + most < next)
			next = fe->run.heard_ms + most;
	}
	if (next != UINT64_MAX)
		flight_wake_at(f, next);
}

/* The last of a host's fetchers stays, so that a slow one gets on, too. */
bool pool_reclaim(struct flight *f, const struct host *h)
{
	struct fetcher *most = NULL;

	if (host_running(f, h) > 0)
		return false;
	for (struct fetcher *fe = f->fetchers; fe; fe = fe->next) {
		const struct run *r = &fe->run;

		if (!r->layer || !r->host || r->host == h || host_running(f, r->host) < 2)
			continue;
		if (!most || r->heard_ms < most->run.heard_ms)
			most = fe;
	}
	if (!most || clock_ms() - most->run.heard_ms < RECLAIM_MS)
		return false;
	pool_drop(f, most, -ETIMEDOUT, "it was silent while another host was waited for");
	return true;
}

/* What is nearly done may end; a long stream, or one that has come to a halt, is cut off. */
void pool_drop_layer(struct flight *f, const struct layer *l)
{
	uint64_t now = clock_ms();

	for (struct fetcher *fe = f->fetchers, *after; fe; fe = after) {
		after = fe->next;
		if (fe->run.layer == l && (fe->run.end - fe->run.next > PLAN_RUN_FILL ||
					   now - fe->run.heard_ms > HALT_MS))
			pool_drop(f, fe, -ECANCELED, NULL);
	}
}

uint32_t flight_fetchers(const struct flight *f, int32_t *pids, uint32_t max)
{
	uint32_t n = 0;

	for (const struct fetcher *fe = f->fetchers; fe && n < max; fe = fe->next)
		pids[n++] = fe->pid;
	return n;
}
