/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/handover.h"
#include "plugin/keep.h"
#include "plugin/log.h"

#define END_MS      1000  /* what one that has handed over gets to end */
#define STOPPING_MS 60000 /* what an earlier tarnd that lives gets to stop and to hand over */

static void socket_address(int store, struct sockaddr_un *a)
{
	/* Through the descriptor: a store's path may be longer than sun_path. */
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/guardian.sock", store);
}

int guard_listen(int store, struct err *e)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	socket_address(store, &a);
	unlinkat(store, "guardian.sock", 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4) < 0)
		return err_errno(e, -errno, "store: guardian.sock");
	return take_fd(&fd);
}

int handover_patience(int sock, unsigned ms)
{
	const struct timeval limit = {.tv_sec = ms / 1000};

	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	return 0;
}

#define PIECES_MAX (LIMIT_MOUNTED * 3 + WARD_FETCHERS + 64)

struct receiver {
	int n;
	struct {
		int32_t number; /* in the old table */
		int fd;         /* in ours */
	} got[PIECES_MAX];
};

/* It lives, and stops for us if we say so: only once we know that we can take what it has. */
static int agree_to_wait(int sock, struct err *e)
{
	int r = handover_patience(sock, STOPPING_MS);

	if (r == 0 && send(sock, "", 1, MSG_NOSIGNAL) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, r, "asking the earlier tarnd to stop") : 0;
}

/* No piece came: @n is what keep_recvmsg() returned. */
static int no_piece(ssize_t n, const struct receiver *rc, bool waited, struct err *e)
{
	if (n == -EAGAIN && !waited)
		return err_set(e, -EBUSY, "the store is in use by another tarnd");
	if (n == -EAGAIN)
		return err_set(e, -EBUSY, "the earlier tarnd does not stop");
	/* It agreed and had nothing to hand over, or it was on its way out when we called. */
	if ((n == 0 || n == -ECONNRESET) && rc->n == 0)
		return err_set(e, -EAGAIN, "the earlier tarnd has ended");
	return err_set(e, -EPROTO, "the earlier tarnd ended during the hand-over");
}

static int receive(int sock, struct receiver *rc, struct err *e)
{
	bool waited = false;

	for (;;) {
		struct piece p;
		int fd, r;
		ssize_t n = keep_recvmsg(sock, &p, sizeof(p), &fd, 1, NULL);

		if (n != sizeof(p))
			return no_piece(n, rc, waited, e);
		if (p.version != WARD_VERSION) {
			cleanup_closep(&fd);
			return err_set(e, -EPROTO,
				       "containers use layers held by a tarnd of "
				       "another version; stop them first");
		}
		if (p.number == PIECE_LAST)
			return 0;
		if (p.number == PIECE_WAIT) {
			waited = true;
			r = agree_to_wait(sock, e);
			if (r < 0)
				return r;
			continue;
		}
		if (fd < 0 || rc->n == PIECES_MAX) {
			cleanup_closep(&fd);
			return err_set(e, -EMFILE, "descriptors of the earlier tarnd");
		}
		rc->got[rc->n].number = p.number;
		rc->got[rc->n++].fd = fd;
	}
}

/* The ward records numbers of the old table; each becomes the number it has here. */
static void renumber(void *ctx, int32_t *fd)
{
	const struct receiver *rc = ctx;

	for (int i = 0; i < rc->n; i++) {
		if (rc->got[i].number == *fd) {
			*fd = rc->got[i].fd;
			return;
		}
	}
	*fd = -1;
}

/*
 * It ends by itself once it has our word. One that did not get it, or not in time, would go on and
 * hand the same memory, where the numbers are ours by then, to the next one who asks.
 */
static void end_old(const struct ward *w, const struct receiver *rc)
{
	int32_t fd = w->guardian_pidfd;
	struct pollfd p;

	renumber((void *)rc, &fd);
	p = (struct pollfd){.fd = fd, .events = POLLIN};
	if (fd < 0 || poll(&p, 1, END_MS) > 0)
		return;
	log_warn("the earlier tarnd does not end; it is killed");
	syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	poll(&p, 1, END_MS);
}

/*
 * True when it took our word, and so ends: a socket that is closed with a word unread in it is
 * reset, and one that was closed before takes none (net/unix/af_unix.c, unix_release_sock()).
 */
static bool confirm(int sock)
{
	char gone;

	return send(sock, "", 1, MSG_NOSIGNAL) == 1 && recv(sock, &gone, 1, 0) == 0;
}

/*
 * Who was stopped for long in the middle may find that the old one, @old, has given all to another,
 * and must not have it, too. One of those whose word was not taken gets it, as the old one is gone.
 */
static bool take_place(struct ward *w, pid_t old, bool confirmed)
{
	int32_t from = old;

	if (confirmed) {
		atomic_store(&w->guardian_pid, getpid());
		return true;
	}
	return atomic_compare_exchange_strong(&w->guardian_pid, &from, getpid());
}

static int connect_old(int store, struct err *e)
{
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	socket_address(store, &a);
	if (sock < 0)
		return err_errno(e, -errno, "socket");
	handover_patience(sock, HANDOVER_MS);
	if (connect(sock, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -ENOENT; /* EAGAIN too: a tarnd that lives takes no calls, however many */
	return take_fd(&sock);
}

static void drop(struct receiver *rc)
{
	for (int i = 0; i < rc->n; i++)
		close(rc->got[i].fd);
	free(rc);
}

int guard_take_over(int store, struct ward **ret_ward, struct slots **ret_slots, struct err *e)
{
	struct receiver *rc = calloc(1, sizeof(*rc));
	_cleanup_fd_ int sock = connect_old(store, e);
	struct ward *w = NULL;
	struct slots *s = NULL;
	bool confirmed;
	pid_t old;
	int r = rc ? sock : -ENOMEM;

	if (r >= 0)
		r = receive(sock, rc, e);
	if (r == 0 && (rc->n < 2 || ward_map(rc->got[0].fd, rc->got[1].fd, &w, &s) < 0))
		r = err_set(e, -EPROTO, "the earlier tarnd's memory cannot be used");
	if (r < 0) {
		if (rc)
			drop(rc);
		return r;
	}
	/*
	 * The numbers are in memory that the old guardian goes by, until it is gone: should we die
	 * before it has our confirmation, it goes on as if nobody had asked.
	 */
	old = atomic_load(&w->guardian_pid);
	confirmed = confirm(sock);
	end_old(w, rc);
	if (!take_place(w, old, confirmed)) {
		drop(rc);
		ward_unmap(w, s);
		return err_set(e, -EAGAIN, "another tarnd has taken over");
	}
	ward_each_fd(w, renumber, rc);
	free(rc);
	*ret_ward = w;
	*ret_slots = s;
	return 0;
}
