/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/verbs.h"
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
 * A connection. First the loop waits for its request; then a thread has it, and the loop touches
 * nothing but `next` until the thread has posted task_gone().
 */
struct task {
	struct ctl_task t;          /* what the verb sees; sock is owned */
	struct ctl_server *server;  /* borrowed */
	struct loop_io *io;         /* while the request is awaited; the loop's */
	struct loop_timer *timer;   /* likewise */
	struct task *next;
	uint8_t request[LIMIT_CTL_MESSAGE];
};

struct ctl_server {
	struct engine *en;         /* borrowed */
	int listen_fd;             /* owned */
	struct loop_io *listen_io; /* the loop's */
	struct loop_timer *again;  /* the loop's; accepting rests until it runs */
	struct task *tasks;        /* owned */
	uint32_t ntasks, nthreads;
	bool has_group;
	gid_t group;               /* its members may talk to us, like root */
};

/* --- sending; from the task's thread, or before it has one --- */

/* Waits at most CLIENT_TIMEOUT_MS for a client that does not read (SO_SNDTIMEO). */
static int send_message(const struct ctl_task *t, struct buf *b, int fd)
{
	int r = b->failed;

	if (r == 0 && b->len > LIMIT_CTL_MESSAGE)
		r = -EMSGSIZE;
	if (r == 0)
		r = keep_sendmsg(t->sock, b->data, b->len, &fd, fd >= 0 ? 1 : 0);
	return r == -EAGAIN || r == -ECONNRESET ? -EPIPE : r;
}

static void send_error(const struct ctl_task *t, const struct err *e)
{
	int exit_code = e->code == -EOPNOTSUPP ? 3 : e->code == CTL_USAGE ? 2 : 1;
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_CTL_MESSAGE);
	g = json_gen_new(&b, false);
	if (!g)
		return;
	json_open_map(g, NULL);
	json_open_map(g, "error");
	json_put_str(g, "text", e->text);
	json_put_int(g, "exit", exit_code);
	json_put_int(g, "code", -(int64_t)e->code);
	json_close_map(g);
	json_close_map(g);
	send_message(t, &b, -1);
}

int ctl_send_row(struct ctl_task *t, struct buf *row_object)
{
	_cleanup_buf_ struct buf b;

	if (row_object->failed)
		return row_object->failed;
	buf_init(&b, LIMIT_CTL_MESSAGE);
	buf_put_str(&b, "{\"row\":");
	buf_put(&b, row_object->data, row_object->len);
	buf_put_str(&b, "}");
	return send_message(t, &b, -1);
}

bool ctl_cancelled(struct ctl_task *t)
{
	struct pollfd p = {.fd = t->sock};

	return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

int ctl_send_progress(struct ctl_task *t, const char *text, uint64_t done, uint64_t total)
{
	struct pollfd p = {.fd = t->sock, .events = POLLOUT};
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b;

	if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL))
		return -EPIPE;
	/* Work does not wait for somebody who does not look. */
	if (!(p.revents & POLLOUT))
		return 0;
	buf_init(&b, LIMIT_CTL_MESSAGE);
	g = json_gen_new(&b, false);
	if (!g)
		return -ENOMEM;
	json_open_map(g, NULL);
	json_open_map(g, "progress");
	json_put_str(g, "text", text);
	json_put_int(g, "done", (int64_t)done);
	json_put_int(g, "total", (int64_t)total);
	json_close_map(g);
	json_close_map(g);
	return send_message(t, &b, -1);
}

/* --- serving; the task's thread --- */

static const struct ctl_verb *find_verb(const char *name)
{
	for (const struct ctl_verb *v = ctl_verbs; name && v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

static int read_request(struct task *task, struct json **ret, struct err *e)
{
	ssize_t n = recv(task->t.sock, task->request, sizeof(task->request),
			 MSG_DONTWAIT | MSG_TRUNC);

	if (n <= 0)
		return err_set(e, -EPIPE, "no request came");
	if ((size_t)n > sizeof(task->request))
		return err_set(e, CTL_USAGE, "a request of %zd bytes is too long", n);
	if (json_parse(task->request, (size_t)n, LIMIT_CTL_MESSAGE, "request", ret, e) < 0)
		return err_wrap(e, CTL_USAGE, "control socket");
	return 0;
}

/* The whole answer to the request, but for an error. */
static int answer(struct task *task, struct err *e)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_(json_freep) struct json *doc = NULL;
	const struct ctl_verb *verb;
	_cleanup_buf_ struct buf b;
	int r = read_request(task, &doc, e);

	if (r < 0)
		return r;
	buf_init(&b, LIMIT_CTL_MESSAGE);
	g = json_gen_new(&b, false);
	if (!g)
		return err_errno(e, -ENOMEM, "control socket");
	verb = find_verb(json_get_str(doc, "verb"));
	if (!verb)
		return err_set(e, CTL_USAGE, "tarnd knows no such verb: %.64s",
			       json_get_str(doc, "verb") ? json_get_str(doc, "verb") : "(none)");
	task->t.args = doc;
	json_open_map(g, NULL);
	json_open_map(g, "done");
	r = verb->run(&task->t, g, e);
	json_close_map(g);
	json_close_map(g);
	task->t.args = NULL;
	if (r == 0)
		r = send_message(&task->t, &b, task->t.reply_fd);
	if (r < 0 && e->code == 0)
		err_errno(e, r, "%s", verb->name);
	return r;
}

static void task_gone(void *ctx);

static void *serve(void *ctx)
{
	struct task *task = ctx;
	struct err e = ERR_INIT;

	if (answer(task, &e) < 0) {
		log_debug("control: pid %d: %s", task->t.pid, e.text);
		send_error(&task->t, &e);
	}
	cleanup_closep(&task->t.reply_fd);
	/* Out of memory is the only failure; then the connection stays, half closed. */
	shutdown(task->t.sock, SHUT_RDWR);
	loop_post(task->t.en->loop, task_gone, task);
	return NULL;
}

/* --- connections; the loop's thread --- */

static void listen_again(struct ctl_server *s);

static void task_free(struct task *task)
{
	struct ctl_server *s = task->server;
	struct task **at = &s->tasks;

	while (*at != task)
		at = &(*at)->next;
	*at = task->next;
	s->ntasks--;
	loop_remove_io(task->io);
	if (task->timer)
		loop_cancel(task->timer);
	cleanup_closep(&task->t.sock);
	free(task);
	listen_again(s);
}

static void task_gone(void *ctx)
{
	struct task *task = ctx;

	task->server->nthreads--;
	task_free(task);
}

/* A thread that gets no signals: those are for the process's loop. */
static int start_thread(struct task *task)
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
	r = pthread_create(&thread, &attr, serve, task);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

static void request_came(void *ctx, uint32_t events)
{
	struct task *task = ctx;
	struct err e = ERR_INIT;
	int r;

	if (!(events & EPOLLIN)) {
		task_free(task);
		return;
	}
	task->io = loop_remove_io(task->io);
	loop_cancel(task->timer);
	task->timer = NULL;
	r = start_thread(task);
	if (r == 0) {
		task->server->nthreads++;
		return;
	}
	err_errno(&e, r, "tarnd cannot serve one more request");
	send_error(&task->t, &e);
	task_free(task);
}

static void request_late(void *ctx)
{
	struct task *task = ctx;

	task->timer = NULL; /* the loop frees it */
	task_free(task);
}

static int peer_groups(int sock, gid_t group)
{
	_cleanup_free_ gid_t *list = NULL;
	socklen_t len = 0;

	/* The first call says how much room the list needs (socket(7), SO_PEERGROUPS). */
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, NULL, &len) == 0 || errno != ERANGE)
		return 0;
	list = malloc(len);
	if (!list || getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, list, &len) < 0)
		return 0;
	for (size_t i = 0; i < len / sizeof(gid_t); i++)
		if (list[i] == group)
			return 1;
	return 0;
}

static bool allowed(const struct ctl_server *s, int sock, const struct ucred *who)
{
	if (who->uid == 0)
		return true;
	return s->has_group && (who->gid == s->group || peer_groups(sock, s->group));
}

/* Sends may wait for the client, but not for ever. */
static int set_blocking(int sock)
{
	struct timeval tv = {.tv_sec = CLIENT_TIMEOUT_MS / 1000};

	return setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0 ? -errno : 0;
}

static void add_client(struct ctl_server *s, int sock, const struct ucred *who)
{
	struct task *task = calloc(1, sizeof(*task));

	if (!task) {
		close(sock);
		return;
	}
	task->t = (struct ctl_task){.en = s->en, .sock = sock, .uid = who->uid, .pid = who->pid,
				    .reply_fd = -1};
	task->server = s;
	task->next = s->tasks;
	s->tasks = task;
	s->ntasks++;
	if (set_blocking(sock) < 0 ||
	    loop_after(s->en->loop, CLIENT_TIMEOUT_MS, request_late, task, &task->timer) < 0 ||
	    loop_add_io(s->en->loop, sock, EPOLLIN, false, request_came, task, &task->io) < 0)
		task_free(task);
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
	send_error(&t, &e);
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

/* One at a time: between two the loop looks at the events of readers. */
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
	if (s->ntasks >= LIMIT_CTL_CLIENTS)
		loop_set_events(s->listen_io, 0); /* the others wait in the socket's backlog */
}

static void listen_again(struct ctl_server *s)
{
	if (s->listen_io && !s->again && s->ntasks < LIMIT_CTL_CLIENTS)
		loop_set_events(s->listen_io, EPOLLIN);
}

static void find_group(struct ctl_server *s, const char *name)
{
	struct group g, *found = NULL;
	char text[16384];

	if (!name[0])
		return;
	getgrnam_r(name, &g, text, sizeof(text), &found);
	if (!found) {
		log_warn("socket.group: there is no group '%s', so the socket is root's alone", name);
		return;
	}
	s->has_group = true;
	s->group = found->gr_gid;
}

int ctl_server_new(struct engine *en, int listen_fd, struct ctl_server **ret)
{
	struct ctl_server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->en = en;
	s->listen_fd = listen_fd;
	find_group(s, en->slots->settings.group);
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
	struct task *next;

	s->listen_io = loop_remove_io(s->listen_io);
	if (s->again)
		loop_cancel(s->again);
	s->again = NULL;
	for (struct task *task = s->tasks; task; task = next) {
		next = task->next;
		if (task->io)
			task_free(task);
		else
			shutdown(task->t.sock, SHUT_RDWR);
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
