/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/keep.h"

/* A request that waits for its answer, on the stack of the thread that sent it. */
struct call {
	const struct keep_request *req; /* borrowed; sent again when the keeper was replaced */
	struct keep_reply *rep;         /* borrowed */
	int fds[KEEP_FDS_MAX];          /* owned until handed over */
	bool to_send;                   /* its thread is to send it, at first or again */
	bool done;
	struct call *next;
};

struct keep {
	int fd; /* borrowed */
	keep_tell_fn tell;
	void *ctx;
	pthread_mutex_t lock; /* guards calls and seq */
	pthread_cond_t cond;
	struct call *calls;
	uint64_t seq;
	bool gone; /* keeper and guardian are dead: nobody will ever answer */
};

int keep_new(int fd, keep_tell_fn tell, void *ctx, struct keep **ret)
{
	struct keep *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->fd = fd;
	k->tell = tell;
	k->ctx = ctx;
	/* Answers to an earlier engine's requests must not be taken for ours. */
	k->seq = (uint64_t)getpid() << 32;
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->cond, NULL);
	*ret = k;
	return 0;
}

struct keep *keep_free(struct keep *k)
{
	if (!k)
		return NULL;
	pthread_cond_destroy(&k->cond);
	pthread_mutex_destroy(&k->lock);
	free(k);
	return NULL;
}

static struct call *find_call(struct keep *k, uint64_t seq)
{
	for (struct call *c = k->calls; c; c = c->next)
		if (c->req->seq == seq)
			return c;
	return NULL;
}

static void close_fds(int *fds)
{
	for (int i = 0; i < KEEP_FDS_MAX; i++)
		cleanup_closep(&fds[i]);
}

/* A new keeper does not know what the old one had read from the socket and not answered. */
static void send_again(struct keep *k)
{
	pthread_mutex_lock(&k->lock);
	for (struct call *c = k->calls; c; c = c->next)
		c->to_send = true;
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->lock);
}

static void complete(struct keep *k, const struct keep_reply *rep, int *fds)
{
	struct call *c;

	pthread_mutex_lock(&k->lock);
	c = find_call(k, rep->seq);
	if (c && !c->done) {
		*c->rep = *rep;
		memcpy(c->fds, fds, sizeof(c->fds));
		c->done = true;
		pthread_cond_broadcast(&k->cond);
	} else {
		close_fds(fds);
	}
	pthread_mutex_unlock(&k->lock);
}

static void give_up(struct keep *k)
{
	pthread_mutex_lock(&k->lock);
	k->gone = true;
	pthread_cond_broadcast(&k->cond);
	pthread_mutex_unlock(&k->lock);
}

int keep_pump(struct keep *k)
{
	struct keep_reply rep;
	int fds[KEEP_FDS_MAX];
	ssize_t n;

	n = keep_recvmsg(k->fd, &rep, sizeof(rep), fds, KEEP_FDS_MAX, NULL);
	/* The latter: the other end was closed over something of ours that it had not read. */
	if (n == 0 || n == -ECONNRESET) {
		give_up(k);
		return -EPIPE;
	}
	if (n < 0)
		return n == -EAGAIN ? 0 : (int)n;
	if (n != sizeof(rep)) {
		close_fds(fds);
		return -EPROTO;
	}
	if (rep.seq) {
		complete(k, &rep, fds);
		return 0;
	}
	if (rep.op == KEEP_TELL_AGAIN)
		send_again(k);
	else
		k->tell(k->ctx, &rep, fds);
	close_fds(fds);
	return 0;
}

static void unlink_call(struct keep *k, struct call *c)
{
	struct call **at = &k->calls;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
}

/*
 * A send waits while the socket is full, and the keeper empties it only as fast as its answers are
 * taken: so the lock, which taking an answer needs, is not held over it. (unlocks and locks
 * k->lock)
 */
static int send_call(struct keep *k, struct call *c)
{
	int r;

	c->to_send = false;
	pthread_mutex_unlock(&k->lock);
	r = keep_sendmsg(k->fd, c->req, sizeof(*c->req), NULL, 0);
	pthread_mutex_lock(&k->lock);
	return r;
}

int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e)
{
	struct call c = {.req = req, .rep = rep, .fds = {-1, -1, -1, -1}, .to_send = true};
	int r = 0;

	pthread_mutex_lock(&k->lock);
	req->seq = ++k->seq;
	c.next = k->calls;
	k->calls = &c;
	while (r == 0 && !c.done) {
		if (k->gone)
			r = -EPIPE;
		else if (c.to_send)
			r = send_call(k, &c);
		else
			pthread_cond_wait(&k->cond, &k->lock);
	}
	unlink_call(k, &c);
	pthread_mutex_unlock(&k->lock);
	if (r < 0)
		return err_errno(e, r, "the keeper does not answer");
	for (int i = 0; i < maxfds; i++)
		fds[i] = i < KEEP_FDS_MAX ? take_fd(&c.fds[i]) : -1;
	close_fds(c.fds);
	if (rep->result < 0) {
		rep->text[sizeof(rep->text) - 1] = '\0';
		return err_take(e, rep->result, rep->text, &rep->links);
	}
	return rep->result;
}

/* #syscalls engine: sendto */
int keep_send(struct keep *k, struct keep_request *req)
{
	pthread_mutex_lock(&k->lock);
	req->seq = ++k->seq;
	pthread_mutex_unlock(&k->lock);
	return send(k->fd, req, sizeof(*req), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}
