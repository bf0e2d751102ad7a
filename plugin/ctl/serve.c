/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/serve.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/verbs.h"
#include "plugin/keep.h"
#include "plugin/log.h"

/* --- sending --- */

/* Every message is an object with one member, which is an object too. */
static void message_open(struct json_text *m, const char *kind)
{
	json_text_open(m, LIMIT_CTL_MESSAGE, false);
	json_open_map(m->g, NULL);
	json_open_map(m->g, kind);
}

/* A client that does not read is waited for, but not for ever: the server set SO_SNDTIMEO. */
static int message_send(const struct ctl_task *t, struct json_text *m, int fd)
{
	int r;

	json_close_map(m->g);
	json_close_map(m->g);
	r = m->text.failed;
	if (r == 0)
		r = keep_sendmsg(t->sock, m->text.data, m->text.len, &fd, fd >= 0 ? 1 : 0);
	return r == -EAGAIN || r == -ECONNRESET ? -EPIPE : r;
}

void task_error(const struct ctl_task *t, const struct err *e)
{
	int exit_code = e->code == -EOPNOTSUPP ? 3 : e->code == CTL_USAGE ? 2 : 1;
	_cleanup_json_text_ struct json_text m;
	char link[ERR_TEXT_MAX];

	message_open(&m, "error");
	json_put_str(m.g, "text", e->text);
	json_put_int(m.g, "exit", exit_code);
	json_put_int(m.g, "code", -(int64_t)e->code);
	json_open_array(m.g, "links");
	for (size_t i = 0; i < err_nlinks(e); i++)
		json_put_str(m.g, NULL, err_link(e, i, link));
	json_close_array(m.g);
	json_put_int(m.g, "cause", e->links.cause);
	message_send(t, &m, -1);
}

void ctl_row_open(struct json_text *row)
{
	message_open(row, "row");
}

int ctl_row_send(struct ctl_task *t, struct json_text *row)
{
	return message_send(t, row, -1);
}

bool ctl_cancelled(struct ctl_task *t)
{
	struct pollfd p = {.fd = t->sock};

	return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

int ctl_send_progress(struct ctl_task *t, const char *text, uint64_t done, uint64_t total)
{
	struct pollfd p = {.fd = t->sock, .events = POLLOUT};
	_cleanup_json_text_ struct json_text m = {.g = NULL};

	if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR | POLLNVAL))
		return -EPIPE;
	/* Work does not wait for somebody who does not look. */
	if (!(p.revents & POLLOUT))
		return 0;
	message_open(&m, "progress");
	json_put_str(m.g, "text", text);
	json_put_int(m.g, "done", (int64_t)done);
	json_put_int(m.g, "total", (int64_t)total);
	return message_send(t, &m, -1);
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
	_cleanup_json_text_ struct json_text m = {.g = NULL};
	_cleanup_(json_freep) struct json *doc = NULL;
	const struct ctl_verb *verb;
	int r = read_request(task, &doc, e);

	if (r < 0)
		return r;
	verb = find_verb(json_get_str(doc, "verb"));
	if (!verb)
		return err_set(e, CTL_USAGE, "tarnd knows no such verb: %.64s",
			       json_get_str(doc, "verb") ? json_get_str(doc, "verb") : "(none)");
	task->t.args = doc;
	message_open(&m, "done");
	r = verb->run(&task->t, m.g, e);
	task->t.args = NULL;
	if (r == 0)
		r = message_send(&task->t, &m, task->t.reply_fd);
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
