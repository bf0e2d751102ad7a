/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/fdstore.h"
#include "plugin/handover.h"
#include "plugin/isolate.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/others.h"

#define OTHERS_MS 1000 /* how often it is looked whether they live: nobody tells */

struct sender {
	int sock;
	int failed;
};

static void send_fd(void *ctx, int32_t *fd)
{
	struct sender *s = ctx;
	const struct piece p = {.version = WARD_VERSION, .number = *fd};

	if (*fd >= 0 && !s->failed)
		s->failed = keep_sendmsg(s->sock, &p, sizeof(p), fd, 1);
}

/* True when the successor has confirmed. */
static bool hand_over(const struct birth *b, int sock)
{
	const struct piece last = {.version = WARD_VERSION, .number = PIECE_LAST};
	struct sender s = {.sock = sock};
	char ok;

	send_fd(&s, &b->ward->fd_ward);
	send_fd(&s, &b->ward->fd_slots);
	ward_each_fd(b->ward, send_fd, &s);
	if (!s.failed)
		s.failed = keep_sendmsg(sock, &last, sizeof(last), NULL, 0);
	return !s.failed && recv(sock, &ok, 1, 0) == 1;
}

static void close_processes(struct ward *w)
{
	/* Their ends were waited for; their numbers are of no use to anybody. */
	ward_close(&w->keeper_pidfd);
	ward_close(&w->guardian_pidfd);
	ward_close(&w->anchor_pidfd);
}

/* The root file system that inotify watch @watch was on is gone. */
static void forget(struct ward *w, int watch)
{
	for (int i = 0; i < WARD_ATTACHED; i++)
		if (atomic_load(&w->attached[i].state) == WARD_LIVE &&
		    w->attached[i].watch == watch)
			atomic_store(&w->attached[i].state, WARD_FREE);
}

static bool anything_attached(struct ward *w)
{
	char raw[4096] __attribute__((aligned(8)));
	ssize_t n;

	while ((n = read(w->fd_inotify, raw, sizeof(raw))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *ev = (const void *)(raw + at);

			if (ev->mask & IN_IGNORED)
				forget(w, ev->wd);
			at += (ssize_t)(sizeof(*ev) + ev->len);
		}
	}
	for (int i = 0; i < WARD_ATTACHED; i++)
		if (atomic_load(&w->attached[i].state) == WARD_LIVE)
			return true;
	return false;
}

static bool anything_in_use(struct ward *w)
{
	return anything_attached(w) || others_any(w);
}

bool linger_needed(struct ward *w)
{
	for (int i = 0; i < WARD_ATTACHED; i++)
		if (atomic_load(&w->attached[i].state) == WARD_LIVE)
			return anything_in_use(w);
	return others_any(w);
}

/* Who calls, if it is root; fd or -errno. */
static int accept_root(int fd_linger)
{
	_cleanup_fd_ int sock = accept4(fd_linger, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (sock < 0 || getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	if (cred.uid != 0)
		return -EPERM;
	handover_patience(sock, HANDOVER_MS);
	return take_fd(&sock);
}

static void hand_over_and_end(const struct birth *b, int sock)
{
	if (sock >= 0 && hand_over(b, sock))
		_exit(EXIT_SUCCESS);
}

static void answer_successor(const struct birth *b)
{
	_cleanup_fd_ int sock = accept_root(b->ward->fd_linger);

	hand_over_and_end(b, sock);
}

/* It is no descriptor to be handed over: then it would never end. */
static void answer_awaiting(const struct birth *b)
{
	_cleanup_fd_ int sock = take_fd(&b->ward->fd_successor);

	hand_over_and_end(b, sock);
}

int linger_greet(struct ward *w)
{
	const struct piece wait = {.version = WARD_VERSION, .number = PIECE_WAIT};
	int r = accept_root(w->fd_linger);

	if (r < 0)
		return r;
	w->fd_successor = r;
	r = keep_sendmsg(w->fd_successor, &wait, sizeof(wait), NULL, 0);
	if (r < 0)
		ward_close(&w->fd_successor);
	return r;
}

bool linger_agreed(struct ward *w)
{
	char yes;

	if (recv(w->fd_successor, &yes, 1, MSG_DONTWAIT) == 1)
		return true;
	ward_close(&w->fd_successor);
	return false;
}

void linger(const struct birth *b)
{
	struct pollfd p[] = {{.fd = b->ward->fd_linger, .events = POLLIN},
			     {.fd = b->ward->fd_inotify, .events = POLLIN}};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct err e = ERR_INIT;

	setsid();
	if (isolate_holder(&e) < 0)
		log_warn("%s", e.text); /* it holds layers all the same */
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	cleanup_closep(&null);
	atomic_store(&b->ward->guardian_pid, getpid());
	close_processes(b->ward);
	/* A successor gets us, too: see end_old(). */
	b->ward->guardian_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	answer_awaiting(b);
	while (anything_in_use(b->ward)) {
		if (poll(p, 2, others_any(b->ward) ? OTHERS_MS : -1) > 0 && p[0].revents)
			answer_successor(b);
	}
	/* The last container is gone: nobody can read from these layers any more. */
	fdstore_clear(b->ward);
	_exit(EXIT_SUCCESS);
}
