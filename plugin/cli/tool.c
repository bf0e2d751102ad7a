/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/loop.h"

#define TIMEOUT_MS 20000
#define NOT_FOUND  127

static void child(const char *const *argv, int in, int out)
{
	int null = open("/dev/null", O_RDWR);

	dup2(in >= 0 ? in : null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	execvp(argv[0], (char *const *)argv);
	_exit(NOT_FOUND);
}

/* Until its end is closed. What does not fit is read and forgotten. */
static int collect(int fd, struct buf *out)
{
	uint64_t until = clock_ms() + TIMEOUT_MS;
	char text[4096];

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_ms();
		ssize_t n;

		if (now >= until)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)(until - now)) <= 0)
			continue;
		n = read(fd, text, sizeof(text));
		if (n == 0 || (n < 0 && errno != EINTR))
			return n < 0 ? -errno : 0;
		if (out && n > 0 && out->len + (size_t)n <= out->max)
			buf_put(out, text, (size_t)n);
		explicit_bzero(text, sizeof(text));
	}
}

/* The end that a program reads @text from, or a negative errno. */
static int input_of(const char *text)
{
	_cleanup_fd_ int from = -1, to = -1;
	size_t len = strlen(text);
	int fds[2], r;

	if (len > TOOL_IN_MAX)
		return -E2BIG;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	from = fds[0];
	to = fds[1];
	r = fd_write_full(to, text, len);
	return r < 0 ? r : take_fd(&from);
}

int tool_run(const char *const *argv, const char *in, struct buf *out)
{
	_cleanup_fd_ int input = -1;
	int fds[2], status, r;
	pid_t pid;

	if (in) {
		input = input_of(in);
		if (input < 0)
			return input;
	}
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		child(argv, input, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		r = -errno;
		close(fds[0]);
		return r;
	}
	r = collect(fds[0], out);
	close(fds[0]);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (r < 0)
		return r;
	if (WIFSIGNALED(status))
		return 128 + WTERMSIG(status);
	return WEXITSTATUS(status) == NOT_FOUND ? -ENOENT : WEXITSTATUS(status);
}
