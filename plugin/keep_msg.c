/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "plugin/keep.h"

const char *attach_kind_name(uint32_t kind)
{
	static const char *const names[] = {
		[ATTACH_MOUNT] = "mount",
		[ATTACH_RUNTIME] = "runtime",
		[ATTACH_GRAFT] = "graft",
		[ATTACH_OVERMOUNT] = "overmount",
	};

	return kind < ARRAY_LEN(names) ? names[kind] : NULL;
}

union control {
	char bytes[CMSG_SPACE(sizeof(int) * KEEP_FDS_MAX)];
	struct cmsghdr align;
};

/* The kernel has no memory at this moment. */
static bool is_passing(int err)
{
	return err == EINTR || err == ENOBUFS || err == ENOMEM;
}

/* #syscalls engine: sendmsg */
int keep_sendmsg(int sock, const void *msg, size_t len, const int *fds, int nfds)
{
	struct iovec iov = {.iov_base = (void *)msg, .iov_len = len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t n;

	if (nfds > KEEP_FDS_MAX)
		return -EINVAL;
	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)nfds);
	}
	/* A message that is lost is a request or an answer for which somebody waits for ever. */
	while ((n = sendmsg(sock, &m, MSG_NOSIGNAL)) < 0 && is_passing(errno))
		if (errno != EINTR)
			usleep(10000);
	return n < 0 ? -errno : 0;
}

static int take_fds(struct msghdr *m, int *fds, int maxfds)
{
	int n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int count, fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (int i = 0; i < count; i++) {
			memcpy(&fd, CMSG_DATA(c) + sizeof(int) * (size_t)i, sizeof(int));
			if (n < maxfds)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

/* #syscalls engine: recvmsg */
ssize_t keep_recvmsg(int sock, void *msg, size_t len, int *fds, int maxfds, int *ret_nfds)
{
	struct iovec iov = {.iov_base = msg, .iov_len = len};
	union control control;
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control.bytes,
			   .msg_controllen = sizeof(control)};
	ssize_t n;
	int nfds;

	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	nfds = take_fds(&m, fds, maxfds);
	for (int i = nfds; i < maxfds; i++)
		fds[i] = -1;
	if (ret_nfds)
		*ret_nfds = nfds;
	return n;
}
