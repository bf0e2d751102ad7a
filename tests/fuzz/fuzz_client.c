/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=socket -Wl,--wrap=connect */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "plugin/ctl/proto.h"
#include "plugin/keep.h"

#define ANSWERS_MAX 16
#define WITH_FDS    0x8000u /* of an answer's length: descriptors come with it */

static int server; /* the other end of the next connection */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	server = pair[1];
	return pair[0];
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return 0;
}

/* Answers, each with its length before it; what is left over is the last one. */
static void say(const uint8_t *data, size_t size)
{
	struct bytes b = bytes_of(data, size);
	int fds[2] = {STDIN_FILENO, STDIN_FILENO};

	for (int i = 0; i < ANSWERS_MAX && b.left > 2; i++) {
		uint32_t head = (uint32_t)bytes_le(&b, 2);
		size_t len = head & ~WITH_FDS;

		len = len < b.left ? len : b.left;
		if (keep_sendmsg(server, bytes_take(&b, len), len, fds,
				 head & WITH_FDS ? 1 + (int)(len & 1) : 0) < 0)
			abort();
	}
	close(server);
}

static void on_row(void *ctx, const struct json *row)
{
	if (!row)
		abort();
}

static void on_progress(void *ctx, const char *text, int64_t done, int64_t total)
{
	if (!text)
		abort();
}

static void check_failure(int r, const struct err *e)
{
	int code = ctl_exit_code(e);

	if (e->code != r || !*e->text || strchr(e->text, '\n') || code < 1 || code > 3)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What tarnd answers, as tarn, the hook and the runtime take it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ctl_handlers h = {.row = on_row, .progress = on_progress};
	_cleanup_(ctl_client_freep) struct ctl_client *c = NULL;
	_cleanup_(json_freep) struct json *done = NULL;
	_cleanup_buf_ struct buf request;
	_cleanup_fd_ int fd = -1;
	struct err e = ERR_INIT;
	int r;

	buf_init(&request, LIMIT_CTL_MESSAGE);
	buf_put(&request, "{}", 2);
	if (ctl_connect("/run/tarn.sock", &c, &e) < 0)
		abort();
	say(data, size);
	r = ctl_request(c, &request, &h, &done, &fd, &e);
	if (r < 0)
		check_failure(r, &e);
	else if (!json_get(done, "done"))
		abort();
	return 0;
}
