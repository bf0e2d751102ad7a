/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/serve.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/ctl/verbs.h"
#include "plugin/keep.h"
#include "plugin/log.h"

/* --- sending --- */

/* A client that does not read is waited for, but not for ever: the server set SO_SNDTIMEO. */
static int send_message(const struct ctl_task *t, struct buf *b, int fd)
{
	int r = b->failed;

	if (r == 0 && b->len > LIMIT_CTL_MESSAGE)
		r = -EMSGSIZE;
	if (r == 0)
		r = keep_sendmsg(t->sock, b->data, b->len, &fd, fd >= 0 ? 1 : 0);
	return r == -EAGAIN || r == -ECONNRESET ? -EPIPE : r;
}

void task_error(const struct ctl_task *t, const struct err *e)
{
	int exit_code = e->code == -EOPNOTSUPP ? 3 : e->code == CTL_USAGE ? 2 : 1;
	char link[ERR_TEXT_MAX];
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_buf_ struct buf b = {0};

	buf_init(&b, LIMIT_CTL_MESSAGE);
	g = json_gen_new(&b, false);
	if (!g)
		return;
	json_open_map(g, NULL);
	json_open_map(g, "error");
	json_put_str(g, "text", e->text);
	json_put_int(g, "exit", exit_code);
	json_put_int(g, "code", -(int64_t)e->code);
	json_open_array(g, "links");
	for (size_t i = 0; i < err_nlinks(e); i++)
		json_put_str(g, NULL, err_link(e, i, link));
	json_close_array(g);
	json_put_int(g, "cause", e->links.cause);
	json_close_map(g);
	json_close_map(g);
	send_message(t, &b, -1);
}

int ctl_send_row(struct ctl_task *t, struct buf *row_object)
{
	_cleanup_buf_ struct buf b = {0};

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
	_cleanup_buf_ struct buf b = {0};

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

/* --- serving --- */

static const struct ctl_verb *find_verb(const char *name)
{
	for (const struct ctl_verb *v = ctl_verbs; name && v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

static int read_request(struct task *task, struct json **ret, struct err *e)
{
	ssize_t n =
		recv(task->t.sock, task->request, sizeof(task->request), MSG_DONTWAIT | MSG_TRUNC);

	if (n <= 0)
		return err_set(e, -EPIPE, "no request came");
	if ((size_t)n > sizeof(task->request))
		return err_set(e, CTL_USAGE, "a request of %zd bytes is too long", n);
	if (json_parse(task->request, (size_t)n, LIMIT_CTL_MESSAGE, "request", ret, e) < 0)
		return e->code = CTL_USAGE;
	return 0;
}

/* The whole answer to the request, but for an error. */
static int answer(struct task *task, struct err *e)
{
	_cleanup_(json_gen_freep) struct json_gen *g = NULL;
	_cleanup_(json_freep) struct json *doc = NULL;
	const struct ctl_verb *verb;
	_cleanup_buf_ struct buf b = {0};
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

void task_serve(struct task *task)
{
	struct err e = ERR_INIT;

	if (answer(task, &e) < 0) {
		log_debug("control: pid %d: %s", task->t.pid, e.text);
		task_error(&task->t, &e);
	}
	cleanup_closep(&task->t.reply_fd);
	task->t.reply_fd = -1;
}
