/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "plugin/keep.h"

#define PATIENCE_MS 5000
#define DEAF_MS     50

/* It did not answer in time. Each layer that is mounted asks again. */
static _Atomic bool deaf;

static int patience_ms(void)
{
	return atomic_load(&deaf) ? DEAF_MS : PATIENCE_MS;
}

static int manager(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	const int ms = patience_ms();
	const struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = -1;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(a.sun_path))
		return -ENOTCONN;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (path[0] == '@') /* the abstract namespace */
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (struct sockaddr *)&a,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
		return -errno;
	return take_fd(&fd);
}

int notify_send(const char *lines, int fd)
{
	_cleanup_fd_ int sock = manager();
	int r = sock;

	if (r >= 0)
		r = keep_sendmsg(sock, lines, strlen(lines), &fd, fd >= 0);
	if (r == -EAGAIN)
		atomic_store(&deaf, true);
	return r;
}

void notify_systemd(const char *state)
{
	atomic_store(&deaf, false); /* that it is not told would be the end of the service */
	(void)!notify_send(state, -1);
}

/* He gets one end of a pipe, and closes it when its turn has come. */
int notify_wait(void)
{
	struct pollfd p = {.fd = -1};
	int ends[2], r, n;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	r = notify_send("BARRIER=1", ends[1]);
	close(ends[1]);
	p.fd = ends[0];
	n = r < 0 ? 0 : TEMP_FAILURE_RETRY(poll(&p, 1, patience_ms()));
	if (n < 0)
		r = -errno;
	close(ends[0]);
	if (r < 0)
		return r;
	atomic_store(&deaf, n == 0);
	return n == 0 ? -EAGAIN : 0;
}
