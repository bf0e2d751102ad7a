/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/fill/wire.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/loop.h"

/*
 * Silence that is too long: a span of a slow registry takes a minute, and a document's request may
 * run into each of its timeouts with several hosts.
 */
#define SILENCE_MS 180000

struct oneshot {
	struct keep *keep; /* borrowed */
	int sock;          /* owned */
	int32_t pid;
	uint32_t last_id;
	bool broken;             /* it may not be asked again */
	uint8_t *buffer;         /* owned mapping of FETCH_BUFFER_SIZE */
	uint8_t *copy;           /* owned, LIMIT_SPAN_MAX: what is handed on */
	struct keep_request req; /* here from the start: a process can be ended without memory */
	struct keep_reply rep;
	struct fetch_job job;
};

static int map_buffer(int fd, uint8_t **ret)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	void *p;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size != (off_t)FETCH_BUFFER_SIZE || seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	p = mmap(NULL, FETCH_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*ret = p;
	return 0;
}

static int ask_keeper(struct oneshot *o, int *ret_buffer, struct err *e)
{
	int fds[2], r;

	o->req.op = KEEP_FETCHER;
	r = keep_call(o->keep, &o->req, &o->rep, fds, 2, e);
	if (r < 0)
		return err_wrap(e, r, "cannot start a fetcher");
	o->sock = fds[0];
	o->pid = o->rep.fetcher.pid;
	*ret_buffer = fds[1];
	return 0;
}

int oneshot_new(struct engine *en, struct oneshot **ret, struct err *e)
{
	_cleanup_(oneshot_freep) struct oneshot *o = calloc(1, sizeof(*o));
	_cleanup_fd_ int buffer = -1;
	int r;

	if (!o)
		return err_set(e, -ENOMEM, "out of memory");
	o->keep = en->keep;
	o->sock = -1;
	o->copy = malloc(LIMIT_SPAN_MAX);
	if (!o->copy)
		return err_set(e, -ENOMEM, "out of memory");
	r = ask_keeper(o, &buffer, e);
	if (r < 0)
		return r;
	r = o->sock < 0 || buffer < 0 ? -EPROTO : map_buffer(buffer, &o->buffer);
	if (r < 0)
		return err_errno(e, r, "cannot use a new fetcher's buffer");
	*ret = take_ptr(o);
	return 0;
}

/*
 * A fetcher that is well exits when its socket closes; one that hangs must be ended. A call, which
 * is asked again of the next keeper, and not keep_send(): that is lost when the socket is full.
 */
static void end_process(struct oneshot *o)
{
	struct err e = ERR_INIT;

	if (o->sock < 0)
		return;
	cleanup_closep(&o->sock);
	o->sock = -1;
	if (o->pid <= 0)
		return;
	o->req = (struct keep_request){.op = KEEP_FETCHER_GONE, .fetcher.pid = o->pid};
	if (keep_call(o->keep, &o->req, &o->rep, NULL, 0, &e) < 0)
		log_warn("fetcher %d may still be there: %s", o->pid, e.text);
}

struct oneshot *oneshot_free(struct oneshot *o)
{
	if (!o)
		return NULL;
	end_process(o);
	if (o->buffer)
		munmap(o->buffer, FETCH_BUFFER_SIZE);
	free(o->copy);
	explicit_bzero(&o->job, sizeof(o->job));
	free(o);
	return NULL;
}

void *oneshot_slot(struct oneshot *o, uint32_t i)
{
	return o->buffer + (size_t)(i % FETCH_SLOTS) * LIMIT_SPAN_MAX;
}

/* #syscalls engine: poll ppoll recvfrom */
static int hear(struct oneshot *o, struct fetch_note *n, struct err *e)
{
	uint64_t until = clock_ms() + SILENCE_MS;
	struct pollfd p = {.fd = o->sock, .events = POLLIN};
	ssize_t len;
	int r;

	do {
		uint64_t now = clock_ms();

		r = poll(&p, 1, now < until ? (int)(until - now) : 0);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return err_set(e, -ETIMEDOUT, "%s: the fetcher hangs", o->job.what);
	/* It died with words of ours unread: that is said once, before what it said last. */
	do
		len = recv(o->sock, n, sizeof(*n), MSG_DONTWAIT | MSG_TRUNC);
	while (len < 0 && (errno == EINTR || errno == ECONNRESET));
	if (len == 0)
		return err_set(e, -EPIPE, "%s: the fetcher died", o->job.what);
	if (len != sizeof(*n) || n->id != o->job.id)
		return err_set(e, -EPROTO, "%s: the fetcher sent nonsense", o->job.what);
	return 0;
}

static int give_back(struct oneshot *o, uint32_t slot, struct err *e)
{
	struct fetch_ack ack = {.op = FETCH_ACK, .slot = slot};

	if (send(o->sock, &ack, sizeof(ack), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(ack))
		return 0;
	return err_set(e, -EPIPE, "%s: the fetcher died", o->job.what);
}

/* Spans of a job come in order, and a shorter one is the last; documents come once. */
struct heard {
	uint32_t next_span;
	bool last_seen;
};

static bool content_fits(const struct oneshot *o, const struct fetch_note *n, struct heard *h)
{
	const struct fetch_job *j = &o->job;
	bool spans = j->op == FETCH_SPANS || j->op == FETCH_INDEX;

	if (n->slot >= FETCH_SLOTS || n->len > LIMIT_SPAN_MAX)
		return false;
	if (h->last_seen || spans != (n->op == FETCH_SPAN))
		return false;
	h->last_seen = !spans;
	if (!spans)
		return true;
	if (n->span != h->next_span || n->len == 0 || n->len > j->span_size ||
	    n->span >= LIMIT_TAR_SIZE / j->span_size)
		return false;
	h->next_span++;
	h->last_seen = n->len < j->span_size;
	return true;
}

static int fail(const struct oneshot *o, struct fetch_note *n, struct err *e)
{
	n->text[sizeof(n->text) - 1] = '\0';
	for (char *c = n->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	if (n->code >= 0 || n->code < -4095)
		return err_set(e, -EPROTO, "%s: the fetcher sent nonsense", o->job.what);
	return err_take(e, n->code, n->text, &n->links);
}

/* 1: the job is done; 0: there is more; or a failure. */
static int take_note(struct oneshot *o, struct fetch_note *n, struct heard *h,
		     int (*note)(void *ctx, const struct fetch_note *n, const void *data,
				 struct err *e),
		     void *ctx, bool *ret_alive, struct err *e)
{
	int r;

	n->content_type[sizeof(n->content_type) - 1] = '\0';
	switch (n->op) {
	case FETCH_DONE:
		return 1;
	case FETCH_FAIL:
		*ret_alive = n->code < 0;
		return fail(o, n, e);
	case FETCH_SPAN:
	case FETCH_BYTES:
		if (content_fits(o, n, h))
			break;
		/* fall through */
	default:
		return err_set(e, -EPROTO, "%s: the fetcher sent nonsense", o->job.what);
	}
	memcpy(o->copy, oneshot_slot(o, n->slot), n->len);
	r = give_back(o, n->slot, e);
	if (r == 0)
		r = note(ctx, n, o->copy, e);
	return r > 0 ? -ECANCELED : r;
}

int oneshot_run(struct oneshot *o, const struct fetch_job *job, const int *fds, int nfds,
		int (*note)(void *ctx, const struct fetch_note *n, const void *data, struct err *e),
		void *ctx, struct fetch_note *final, struct err *e)
{
	struct heard h = {.next_span = job->op == FETCH_SPANS ? job->first_span : 0};
	struct fetch_note n;
	bool alive = false;
	int r;

	if (o->broken)
		return err_set(e, -EPIPE, "%s: the fetcher is gone", job->what);
	o->job = *job;
	o->job.id = ++o->last_id;
	o->job.what[sizeof(o->job.what) - 1] = '\0';
	r = keep_sendmsg(o->sock, &o->job, sizeof(o->job), fds, nfds);
	if (r < 0)
		r = err_errno(e, r, "%s: the fetcher takes no job", o->job.what);
	while (r == 0) {
		r = hear(o, &n, e);
		if (r == 0)
			r = take_note(o, &n, &h, note, ctx, &alive, e);
	}
	if (r > 0) {
		if (final)
			*final = n;
		return 0;
	}
	if (!alive) {
		o->broken = true;
		end_process(o);
	}
	return r;
}
