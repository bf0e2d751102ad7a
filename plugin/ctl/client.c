/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "plugin/ctl/proto.h"
#include "plugin/keep.h"

struct ctl_client {
	int sock; /* owned */
	uint8_t message[LIMIT_CTL_MESSAGE];
};

/*
 * A socket's address holds 107 bytes of path. A longer one is reached through its directory's
 * descriptor, which the caller closes when it has connected.
 */
static int address_of(const char *path, struct sockaddr_un *ret, socklen_t *ret_len, int *ret_dir)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = NULL;
	int n;

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	*ret_len = sizeof(*ret);
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", path);
	if (n > 0 && (size_t)n < sizeof(ret->sun_path))
		return 0;
	if (!slash)
		return -ENAMETOOLONG;
	dir = strndup(path, (size_t)(slash - path));
	if (!dir)
		return -ENOMEM;
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return -errno;
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", *ret_dir,
		     slash + 1);
	return (size_t)n < sizeof(ret->sun_path) ? 0 : -ENAMETOOLONG;
}

static int not_there(const char *path, int r, struct err *e)
{
	switch (r) {
	case -ENOENT:
	case -ENOTDIR:
		return err_set(e, r,
			       "tarnd is not running (no socket at %s): start it with systemctl "
			       "start tarnd, or tarnd --store DIR --socket PATH",
			       path);
	case -ECONNREFUSED:
		return err_set(
			e, r,
			"tarnd is not running (nobody answers at %s): start it with systemctl "
			"start tarnd, or tarnd --store DIR --socket PATH",
			path);
	case -EACCES:
	case -EPERM:
		return err_set(e, r,
			       "not allowed to use %s: be root, or a member of the group that "
			       "socket.group of tarn.conf names",
			       path);
	default:
		return err_errno(e, r, "connecting to tarnd at %s", path);
	}
}

int ctl_connect(const char *socket_path, struct ctl_client **ret, struct err *e)
{
	_cleanup_(ctl_client_freep) struct ctl_client *c = calloc(1, sizeof(*c));
	_cleanup_fd_ int dir = -1;
	struct sockaddr_un addr;
	socklen_t len;
	int r;

	if (!c)
		return err_errno(e, -ENOMEM, "connecting to tarnd");
	c->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (c->sock < 0)
		return err_errno(e, -errno, "connecting to tarnd");
	r = address_of(socket_path, &addr, &len, &dir);
	while (r == 0 && connect(c->sock, (struct sockaddr *)&addr, len) < 0)
		if (errno != EINTR)
			r = -errno;
	if (r < 0)
		return not_there(socket_path, r, e);
	*ret = take_ptr(c);
	return 0;
}

struct ctl_client *ctl_client_free(struct ctl_client *c)
{
	if (!c)
		return NULL;
	cleanup_closep(&c->sock);
	free(c);
	return NULL;
}

/* The text again, from its links; the server has said none of them twice. */
static int put_together(const struct json *error, int code, struct err *e)
{
	const struct json *links = json_get(error, "links");
	size_t n = json_count(links);
	const char *last = n ? json_str(json_at(links, n - 1)) : NULL;
	int64_t cause = 0;

	if (!last) {
		last = json_get_str(error, "text");
		return err_set(e, code, "%s", last ? last : "tarnd gave no reason");
	}
	json_get_int(error, "cause", &cause);
	err_set(e, code, "%s", last);
	if (e && cause > 0 && cause <= 4095)
		e->links.cause = (uint16_t)cause;
	for (size_t i = n - 1; i-- > 0;)
		if (json_str(json_at(links, i)))
			err_wrap(e, code, "%s", json_str(json_at(links, i)));
	return code;
}

/* The words and the exit code of an error answer; see ctl_exit_code() for the way back. */
static int take_error(const struct json *error, struct err *e)
{
	int64_t exit_code = 1, code = EIO;

	json_get_int(error, "exit", &exit_code);
	json_get_int(error, "code", &code);
	if (exit_code == 3)
		code = EOPNOTSUPP;
	else if (exit_code == 2)
		code = EINVAL;
	else if (code <= 0 || code > 4095 || code == EINVAL || code == EOPNOTSUPP)
		code = EIO;
	return put_together(error, (int)-code, e);
}

static void tell(const struct json *doc, const struct ctl_handlers *h)
{
	const struct json *row = json_get(doc, "row"), *progress = json_get(doc, "progress");
	int64_t done = 0, total = 0;
	const char *text;

	if (row && h && h->row)
		h->row(h->ctx, row);
	if (!progress || !h || !h->progress)
		return;
	json_get_int(progress, "done", &done);
	json_get_int(progress, "total", &total);
	text = json_get_str(progress, "text");
	h->progress(h->ctx, text ? text : "", done, total);
}

/* One message: the document and its first descriptor. */
static int receive(struct ctl_client *c, struct json **ret, int *ret_fd, struct err *e)
{
	int fds[KEEP_FDS_MAX], nfds = 0, r;
	ssize_t n = keep_recvmsg(c->sock, c->message, sizeof(c->message), fds, KEEP_FDS_MAX, &nfds);

	/* Said once when the server went without having read our request: what it had to say is in
	 * the queue nevertheless. */
	if (n == -ECONNRESET)
		n = keep_recvmsg(c->sock, c->message, sizeof(c->message), fds, KEEP_FDS_MAX, &nfds);
	if (n == 0 || n == -ECONNRESET)
		return err_set(e, -ECONNRESET,
			       "tarnd went away before it was done: try again, its log says why");
	if (n < 0)
		return err_errno(e, (int)n, "reading from tarnd");
	for (int i = 1; i < nfds; i++)
		close(fds[i]);
	r = json_parse(c->message, (size_t)n, LIMIT_CTL_MESSAGE, "answer of tarnd", ret, e);
	if (r < 0) {
		if (nfds > 0)
			close(fds[0]);
		return r == -EINVAL ? err_wrap(e, -EPROTO, "tarnd") : r;
	}
	*ret_fd = nfds > 0 ? fds[0] : -1;
	return 0;
}

int ctl_request(struct ctl_client *c, struct buf *request, const struct ctl_handlers *h,
		struct json **ret_done, int *ret_fd, struct err *e)
{
	int r = request->failed;

	if (r == 0 && request->len > LIMIT_CTL_MESSAGE)
		r = -EMSGSIZE;
	if (r == 0)
		r = keep_sendmsg(c->sock, request->data, request->len, NULL, 0);
	/* A server that refuses us says why before it hangs up: that is read below. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		return err_errno(e, r, "asking tarnd");
	for (;;) {
		_cleanup_(json_freep) struct json *doc = NULL;
		_cleanup_fd_ int fd = -1;

		r = receive(c, &doc, &fd, e);
		if (r < 0)
			return r;
		if (json_get(doc, "error"))
			return take_error(json_get(doc, "error"), e);
		if (!json_get(doc, "done")) {
			tell(doc, h);
			continue;
		}
		if (ret_done)
			*ret_done = take_ptr(doc);
		if (ret_fd)
			*ret_fd = take_fd(&fd);
		return 0;
	}
}

int ctl_exit_code(const struct err *e)
{
	if (e->code == -EOPNOTSUPP)
		return 3;
	return e->code == -EINVAL ? 2 : 1;
}
