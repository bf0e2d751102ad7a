/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/index/tarscan.h"
#include "plugin/engine.h"
#include "plugin/fault/fan.h"
#include "plugin/fill/wire.h"
#include "plugin/filter.h"
#include "plugin/isolate.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/solo.h"
#include "plugin/start.h"

#define CA_MAX (4u << 20) /* Debian's bundle of certificate authorities is 220 KiB */

pid_t spawn_sharing_files(int32_t *pidfd)
{
	struct clone_args args = {
		.flags = CLONE_FILES | (pidfd ? CLONE_PIDFD : 0),
		.pidfd = (uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : (pid_t)pid;
}

/* The C library's fork(): the keeper has threads, and locks of malloc must survive it. */
static pid_t fork_pidfd(int *ret_pidfd)
{
	pid_t pid = fork();
	int pidfd;

	if (pid < 0)
		return -errno;
	if (pid == 0)
		return 0;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0) {
		int r = -errno;

		kill(pid, SIGKILL);
		return r;
	}
	*ret_pidfd = pidfd;
	return pid;
}

/* Moves @fds to the numbers 3, 4, … and closes everything else. */
static int fixed_fds(const int *fds, int n)
{
	int high[8];

	/* First out of the way of each other, then down. */
	for (int i = 0; i < n; i++) {
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64);
		if (high[i] < 0)
			return -errno;
	}
	for (int i = 0; i < n; i++)
		if (dup3(high[i], 3 + i, O_CLOEXEC) < 0)
			return -errno;
	return close_range(3 + (unsigned)n, ~0u, 0) < 0 ? -errno : 0;
}

/* Signals of a terminal or a service manager are the guardian's business alone. */
static void child_signals(void)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
	sigset_t none;

	sigemptyset(&none);
	for (int sig = 1; sig < SIGRTMIN; sig++)
		signal(sig, SIG_DFL);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* --- anchor and engine --- */

/* #syscalls anchor: prctl seccomp getppid */
static void engine_process(const struct birth *b, pid_t anchor)
{
	const int group[2] = {ENGINE_FD_CONTENT, ENGINE_FD_EXEC};
	struct err e = ERR_INIT;

	/* Without the anchor the table would go with this process: then better at once. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != anchor)
		_exit(EXIT_FAILURE);
	log_init("tarnd[engine]", LOG_INFO);
	log_follow(&b->slots->settings.log_level);
	/* In its only thread, before it hears of anybody. */
	if (filter_engine(&e) < 0) {
		start_failed(b->slots, "engine", e.code, &e);
		_exit(EXIT_FAILURE);
	}
	_exit(engine_main(ENGINE_FD_KEEP, b->slots, group));
}

/* An engine that cannot even start is not tried for ever (start.h); one that was killed is. */
static void end_unless_ready(const struct birth *b, pid_t pid, int status, unsigned quick)
{
	struct err e = ERR_INIT;

	if (atomic_load(&b->slots->ready))
		return;
	if (pid < 0)
		err_errno(&e, pid, "it cannot be started");
	else if (WIFEXITED(status))
		err_set(&e, -ECHILD, "it ended with status %d", WEXITSTATUS(status));
	else if (quick > 3)
		err_set(&e, -ECHILD, "it was ended by signal %d at every start", WTERMSIG(status));
	else
		return;
	start_failed(b->slots, "engine", e.code, &e);
	_exit(EXIT_FAILURE);
}

/*
 * Shares its descriptor table with one engine after the other. It does nothing else, so that
 * there is nothing it could die of.
 *
 * #syscalls anchor: clone3 wait4 clock_nanosleep tgkill
 */
static void anchor_process(const struct birth *b)
{
	const int group[2] = {ENGINE_FD_CONTENT, ENGINE_FD_EXEC};
	const pid_t self = getpid();
	unsigned quick = 0; /* deaths in a row soon after the start */

	slots_deny_again(b->slots, group, SLOT_BURYING);
	for (;;) {
		uint64_t born = clock_ms();
		int status = 0;
		pid_t pid = spawn_sharing_files(NULL);

		if (pid == 0)
			engine_process(b, self);
		if (pid > 0) {
			atomic_store(&b->slots->engine_pid, pid);
			TEMP_FAILURE_RETRY(waitpid(pid, &status, 0));
			atomic_store(&b->slots->engine_pid, 0);
			if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
				_exit(EXIT_SUCCESS);
			if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
				slots_engine_killed(b->slots, group);
			else
				slots_engine_died(b->slots, group);
			atomic_fetch_add(&b->slots->engine_starts, 1);
		}
		quick = clock_ms() - born < 1000 ? quick + 1 : 0;
		end_unless_ready(b, pid, status, quick);
		if (quick > 3) /* a crash at every start must not eat the machine */
			usleep(quick < 19 ? quick * 50000 : 999999);
	}
}

/*
 * An anchor that no keeper knows of would serve beside the next one. So it does nothing until it
 * is on the record, and ends when its keeper did not live to write it down.
 */
static void wait_until_recorded(const struct ward *w, pid_t keeper)
{
	while (atomic_load(&w->anchor_pid) != getpid()) {
		if (getppid() != keeper)
			_exit(EXIT_FAILURE);
		usleep(1000);
	}
}

/* Of the keeper's table: what the engine works with, and the lock that makes it the only one. */
static int anchor_table(const struct ward *w, struct err *e)
{
	const int fds[] = {w->fd_engine, w->fd_content, w->fd_exec, solo_take(w->fd_store, e)};
	int r = fds[ARRAY_LEN(fds) - 1];

	if (r < 0)
		return r;
	r = fixed_fds(fds, ARRAY_LEN(fds));
	return r < 0 ? err_errno(e, r, "descriptors") : 0;
}

static void anchor_child(const struct birth *b, pid_t keeper)
{
	const struct ward *w = b->ward;
	struct err e = ERR_INIT;
	struct digest none;
	int r;

	child_signals();
	wait_until_recorded(w, keeper);
	log_init("tarnd[anchor]", LOG_INFO);
	log_follow(&b->slots->settings.log_level);
	r = anchor_table(w, &e);
	/* libcrypto reads its settings when it is used for the first time. */
	if (r == 0)
		r = digest_of("", 0, &none);
	if (r == 0)
		r = isolate_engine(w->engine_uid, w->engine_gid, &e);
	if (r == 0)
		r = filter_anchor(&e);
	if (r < 0) {
		start_failed(b->slots, "engine", r, &e);
		_exit(EXIT_FAILURE);
	}
	/* The keeper's table of mounts is none of the engine's business. */
	munmap(b->ward, sizeof(*b->ward));
	anchor_process(b);
}

pid_t spawn_anchor(const struct birth *b, int *ret_pidfd, struct err *e)
{
	const pid_t keeper = getpid();
	pid_t pid = fork_pidfd(ret_pidfd);

	if (pid < 0)
		return err_errno(e, pid, "starting the engine's anchor");
	if (pid == 0)
		anchor_child(b, keeper);
	return pid;
}

/* --- fetchers --- */

static int read_ca_bundle(struct buf *out)
{
	static const char *const places[] = {
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		_cleanup_fd_ int fd = open(places[i], O_RDONLY | O_CLOEXEC);

		if (fd >= 0)
			return fd_read_all(fd, out);
	}
	return -ENOENT; /* HTTPS will say so when it is asked for */
}

/*
 * Fetchers start in numbers and are killed in the middle of it, so nothing is written that is there
 * already: each write is a chance to leave a temporary file behind.
 */
static bool is_same(int dir, const char *name, const struct buf *text)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_buf_ struct buf have = {0};

	buf_init(&have, 1u << 20);
	return fd >= 0 && fd_read_all(fd, &have) == 0 && have.len == text->len &&
	       (have.len == 0 || memcmp(have.data, text->data, have.len) == 0);
}

/* What the C library's resolver reads goes into the directory the fetcher is locked into. */
static int resolver_root(int store)
{
	static const char *const files[] = {"resolv.conf", "hosts", "nsswitch.conf", "gai.conf"};
	_cleanup_fd_ int etc =
		fd_open_beneath(store, "resolver/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	for (size_t i = 0; etc >= 0 && i < ARRAY_LEN(files); i++) {
		_cleanup_buf_ struct buf text = {0};
		char path[64];
		_cleanup_fd_ int fd = -1;

		buf_init(&text, 1u << 20);
		snprintf(path, sizeof(path), "/etc/%s", files[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && fd_read_all(fd, &text) == 0 && !is_same(etc, files[i], &text))
			fd_publish(etc, files[i], text.data, text.len, 0644, NULL);
	}
	return fd_open_beneath(store, "resolver", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

/* Leaves @sock, as descriptor 3, and nothing else. */
static int lock_in(const struct ward *w, int sock, struct err *e)
{
	const int fds[2] = {sock, resolver_root(w->fd_store)};
	int r = fds[1] < 0 ? fds[1] : fixed_fds(fds, 2);

	return r < 0 ? err_errno(e, r, "store: resolver")
		     : isolate_fetcher(4, w->fetch_uid, w->fetch_gid, e);
}

static void fetcher_child(const struct birth *b, int sock, int buffer)
{
	struct buf ca;
	struct err e = ERR_INIT;
	void *mem;
	int r;

	child_signals();
	/* The level of now: it speaks only when it cannot begin, and the shared memory goes. */
	log_init("tarnd[fetcher]", (enum log_level)b->ward->settings.log_level);
	buf_init(&ca, CA_MAX);
	read_ca_bundle(&ca);
	mem = mmap(NULL, FETCH_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, buffer, 0);
	tarscan_prepare();
	r = mem == MAP_FAILED ? -errno : lock_in(b->ward, sock, &e);
	if (r < 0) {
		log_error("%s", e.text[0] ? e.text : err_words(r));
		_exit(EXIT_FAILURE);
	}
	munmap(b->slots, sizeof(*b->slots));
	munmap(b->ward, sizeof(*b->ward));
	_exit(fetcher_main(3, mem, (const char *)ca.data, ca.len));
}

int spawn_try_fetcher(const struct birth *b, struct err *e)
{
	struct err own = ERR_INIT;
	pid_t pid = fork();
	int status, r;

	if (pid < 0)
		return err_errno(e, -errno, "starting a fetcher");
	if (pid == 0) {
		child_signals();
		r = lock_in(b->ward, b->ward->fd_engine, &own);
		if (r < 0)
			start_failed(b->slots, "fetcher", r, &own);
		_exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(e, -errno, "starting a fetcher");
	if (status == 0)
		return 0;
	/* What it said itself, if it could, comes first. */
	return err_set(e, -ECHILD, "a fetcher cannot be started");
}

/* Sealed: a fetcher that shrinks it would kill the engine that has it mapped. */
static int make_buffer(void)
{
	int fd = memfd_create("tarn-spans", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)FETCH_BUFFER_SIZE) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

pid_t spawn_fetcher(const struct birth *b, int *ret_pidfd, int *ret_sock, int *ret_buffer,
		    struct err *e)
{
	_cleanup_fd_ int buffer = make_buffer();
	_cleanup_fd_ int ours = -1;
	_cleanup_fd_ int theirs = -1;
	int pair[2];
	pid_t pid;

	if (buffer < 0)
		return err_errno(e, buffer, "a fetcher's buffer");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, -errno, "a fetcher's socket");
	ours = pair[0];
	theirs = pair[1];
	pid = fork_pidfd(ret_pidfd);
	if (pid < 0)
		return err_errno(e, pid, "starting a fetcher");
	if (pid == 0)
		fetcher_child(b, theirs, buffer);
	*ret_sock = take_fd(&ours);
	*ret_buffer = take_fd(&buffer);
	return pid;
}
