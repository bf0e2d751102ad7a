/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "plugin/ctl/listen.h"
#include "plugin/ctl/serve.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/filling.h"

/* How long a client may take to send its request, or to make room for an answer. */
#define CLIENT_TIMEOUT_MS 10000
/* accept(2) failed for want of descriptors or memory: the next try. */
#define ACCEPT_AGAIN_MS 200
/* Verbs keep large things on the heap; 256 clients at once must not cost 2 GiB of stacks. */
#define TASK_STACK (512u << 10)

/*
 * A connection. First the loop waits for its request; then a thread has `task`, and the loop
 * touches nothing of it until the thread has posted client_served().
 */
struct client {
	struct task task;
	int sock;                  /* owned */
	struct ctl_server *server; /* borrowed */
	struct loop_io *io;        /* while the request is awaited; the loop's */
	struct loop_timer *timer;  /* likewise */
	struct client *next;
};

struct ctl_server {
	struct engine *en;         /* borrowed */
	int listen_fd;             /* owned */
	struct loop_io *listen_io; /* the loop's */
	struct loop_timer *again;  /* the loop's; accepting rests until it runs */
	struct client *clients;    /* owned */
	uint32_t nclients, nthreads;
	bool has_group;
	gid_t group; /* its members may talk to us, like root */
};

static void listen_again(struct ctl_server *s)
{
	if (s->listen_io && !s->again && s->nclients < s->en->slots->most_clients)
		loop_set_events(s->listen_io, EPOLLIN);
}

static void client_free(struct client *c)
{
	struct ctl_server *s = c->server;
	struct client **at = &s->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	s->nclients--;
	loop_remove_io(c->io);
	if (c->timer)
		loop_cancel(c->timer);
	cleanup_closep(&c->sock);
	free(c);
	listen_again(s);
}

/* --- a request and its thread --- */

static void client_served(void *ctx)
{
	struct client *c = ctx;

	c->server->nthreads--;
	client_free(c);
}

static void *serve(void *ctx)
{
	struct client *c = ctx;

	task_serve(&c->task);
	/* Out of memory is the only failure; then the connection stays, of no use to anybody. */
	shutdown(c->sock, SHUT_RDWR);
	loop_post(c->server->en->loop, client_served, c);
	return NULL;
}

/* A thread that gets no signals: those are for the process's loop. */
static int start_thread(struct client *c)
{
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, TASK_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, serve, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

static void request_came(void *ctx, uint32_t events)
{
	struct client *c = ctx;
	struct err e = ERR_INIT;
	int r;

	if (!(events & EPOLLIN)) {
		client_free(c);
		return;
	}
	c->io = loop_remove_io(c->io);
	loop_cancel(c->timer);
	c->timer = NULL;
	r = start_thread(c);
	if (r == 0) {
		c->server->nthreads++;
		return;
	}
	err_errno(&e, r, "tarnd cannot serve one more request");
	task_error(&c->task.t, &e);
	client_free(c);
}

static void request_late(void *ctx)
{
	struct client *c = ctx;

	c->timer = NULL; /* the loop frees it */
	client_free(c);
}

/* --- connections --- */

/* Is @group among the supplementary groups of the peer (socket(7), SO_PEERGROUPS)? */
static bool peer_in_group(int sock, gid_t group)
{
	socklen_t len = NGROUPS_MAX * sizeof(gid_t);
	_cleanup_free_ gid_t *list = malloc(len);

	if (!list || getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, list, &len) < 0)
		return false;
	for (size_t i = 0; i < len / sizeof(gid_t); i++)
		if (list[i] == group)
			return true;
	return false;
}

static bool allowed(const struct ctl_server *s, int sock, const struct ucred *who)
{
	if (who->uid == 0)
		return true;
	return s->has_group && (who->gid == s->group || peer_in_group(sock, s->group));
}

/* Sends may wait for the client, but not for ever. */
static int set_blocking(int sock)
{
	struct timeval tv = {.tv_sec = CLIENT_TIMEOUT_MS / 1000};

	return setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ? -errno : 0;
}

static void add_client(struct ctl_server *s, int sock, const struct ucred *who)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(sock);
		return;
	}
	c->task.t = (struct ctl_task){
		.en = s->en, .sock = sock, .uid = who->uid, .pid = who->pid, .reply_fd = -1};
	c->sock = sock;
	c->server = s;
	c->next = s->clients;
	s->clients = c;
	s->nclients++;
	if (set_blocking(sock) < 0 ||
	    loop_after(s->en->loop, CLIENT_TIMEOUT_MS, request_late, c, &c->timer) < 0 ||
	    loop_add_io(s->en->loop, sock, EPOLLIN, false, request_came, c, &c->io) < 0)
		client_free(c);
}

static void refuse(int sock, const struct ucred *who)
{
	const struct ctl_task t = {.sock = sock};
	struct err e = ERR_INIT;

	log_info("control: uid %u (pid %d) is not allowed", who->uid, who->pid);
	err_set(&e, -EACCES,
		"uid %u may not use tarnd: be root, or a member of the group that socket.group of "
		"tarn.conf names",
		who->uid);
	task_error(&t, &e);
	close(sock);
}

static void accept_later(void *ctx)
{
	struct ctl_server *s = ctx;

	s->again = NULL;
	listen_again(s);
}

static void rest(struct ctl_server *s)
{
	loop_set_events(s->listen_io, 0);
	if (!s->again)
		loop_after(s->en->loop, ACCEPT_AGAIN_MS, accept_later, s, &s->again);
}

/*
 * One at a time: between two the loop looks at the events of readers.
 * #syscalls engine: accept4 getsockopt setsockopt
 */
static void client_came(void *ctx, uint32_t events)
{
	struct ctl_server *s = ctx;
	struct ucred who = {.uid = (uid_t)-1};
	socklen_t len = sizeof(who);
	int sock = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (sock < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			rest(s);
		return;
	}
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || !allowed(s, sock, &who)) {
		refuse(sock, &who);
		return;
	}
	add_client(s, sock, &who);
	if (s->nclients >= s->en->slots->most_clients)
		loop_set_events(s->listen_io, 0); /* the others wait in the socket's backlog */
}

int ctl_server_new(struct engine *en, int listen_fd, struct ctl_server **ret)
{
	struct ctl_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->en = en;
	s->listen_fd = listen_fd;
	s->has_group = en->slots->has_group;
	s->group = en->slots->group;
	/* A client that went away while it was in the backlog must not stop the loop. */
	fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
	r = loop_add_io(en->loop, listen_fd, EPOLLIN, false, client_came, s, &s->listen_io);
	if (r < 0) {
		free(s);
		return r;
	}
	if (en->keep && filling_pins(en) < 0)
		log_warn("pins: out of memory; what is pinned is not brought here");
	*ret = s;
	return 0;
}

void ctl_server_stop(struct ctl_server *s)
{
	struct client *next;

	s->listen_io = loop_remove_io(s->listen_io);
	ctl_listen_end(s->listen_fd);
	if (s->again)
		loop_cancel(s->again);
	s->again = NULL;
	for (struct client *c = s->clients; c; c = next) {
		next = c->next;
		if (c->io)
			client_free(c);
		else
			shutdown(c->sock, SHUT_RDWR);
	}
}

uint32_t ctl_server_busy(const struct ctl_server *s)
{
	return s->nthreads;
}

struct ctl_server *ctl_server_free(struct ctl_server *s)
{
	if (!s)
		return NULL;
	ctl_server_stop(s);
	/* A thread that still works uses the rest, which then ends with the process. */
	if (s->nthreads > 0)
		return NULL;
	cleanup_closep(&s->listen_fd);
	free(s);
	return NULL;
}
