/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_BROKER_RIG_H
#define TESTS_UNIT_BROKER_RIG_H

/*
 * The keeper's broker over a store of one layer, and the engine's end of its socket. Marks and
 * mounts only count; a fetcher is a process that waits. For one source file, whose link line wraps
 * what is wrapped here. Include cmocka.h first.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/broker_internal.h"
#include "plugin/fault/fan.h"
#include "plugin/mount/mounts.h"
#include "plugin/spawn.h"
#include "tests/unit/scratch.h"

#define TOLD_MAX 16

static struct {
	struct broker broker;
	struct slots slots;
	char dir[64];
	int dir_fd, engine;
	unsigned descriptors;                     /* that were open before */
	int mounts, marks, fs_marks;              /* how many there are now */
	int fail_mount, fail_mark, fail_fs;       /* -errno, for all of them from now on */
	struct keep_reply told[TOLD_MAX], answer; /* of the last request */
	int ntold, fd;                            /* fd: the answer's first, or -1 */
} rig;

static struct ward *ward;

/* --- what the broker stands on --- */

int __wrap_mount_erofs(int image_fd, int tar_fd, struct err *e);
int __wrap_mount_erofs(int image_fd, int tar_fd, struct err *e)
{
	if (rig.fail_mount)
		return err_errno(e, rig.fail_mount, "mounting");
	rig.mounts++;
	return openat(rig.dir_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int __wrap_mount_overlay(const int *lower, unsigned n, int upper, int work, const char *label,
			 struct err *e);
int __wrap_mount_overlay(const int *lower, unsigned n, int upper, int work, const char *label,
			 struct err *e)
{
	return openat(rig.dir_fd, "overlay", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void __wrap_lease_probe(int root_fd, const uint64_t *nids, unsigned n, uint8_t *granted);
void __wrap_lease_probe(int root_fd, const uint64_t *nids, unsigned n, uint8_t *granted)
{
	memset(granted, 1, n);
}

int __wrap_fan_mark_content(int group, int fd, bool on);
int __wrap_fan_mark_content(int group, int fd, bool on)
{
	if (on && rig.fail_mark)
		return rig.fail_mark;
	rig.marks = on;
	return 0;
}

int __wrap_fan_mark_fs(int group, int mount_fd, uint64_t mask);
int __wrap_fan_mark_fs(int group, int mount_fd, uint64_t mask)
{
	if (mask && rig.fail_fs)
		return rig.fail_fs;
	rig.fs_marks = mask != 0;
	return 0;
}

/* A process that does nothing until it is killed. */
static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when a test ends too early */
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	return pid;
}

/* Has it been killed? It stays to be reaped. */
static bool was_killed(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	siginfo_t how;

	return poll(&p, 1, 10000) == 1 &&
	       waitid(P_PIDFD, (id_t)pidfd, &how, WEXITED | WNOWAIT) == 0 &&
	       how.si_status == SIGKILL;
}

pid_t __wrap_spawn_fetcher(const struct birth *b, int *ret_pidfd, int *ret_sock, int *ret_buffer,
			   struct err *e);
pid_t __wrap_spawn_fetcher(const struct birth *b, int *ret_pidfd, int *ret_sock, int *ret_buffer,
			   struct err *e)
{
	pid_t pid = sleeper();
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	*ret_sock = p[0];
	*ret_buffer = p[1];
	return pid;
}

/* --- up and down --- */

/* The layer of the store: its digest is all ones. */
static struct digest one(void)
{
	struct digest d;

	memset(d.sum, 1, sizeof(d.sum));
	return d;
}

static void make_store(int store)
{
	static const char *const dirs[] = {"images", "blobs",    "blobs/sha256",
					   "layers", "unproven", "containers"};
	char hex[DIGEST_HEX + 1], path[DIGEST_HEX + 32];
	const struct digest d = one();

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		assert_int_equal(mkdirat(store, dirs[i], 0700), 0);
	snprintf(path, sizeof(path), "layers/%s", digest_hex(&d, hex));
	assert_int_equal(mkdirat(store, path, 0700), 0);
	for (int i = 0; i < 3; i++) {
		static const char *const name[] = {"tar", "image.erofs", "index"};
		int fd;

		snprintf(path, sizeof(path), "layers/%s/%s", hex, name[i]);
		fd = openat(store, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
}

static int up(void **state)
{
	int pair[2], big = 1 << 20;

	memset(&rig, 0, sizeof(rig));
	rig.fd = -1;
	rig.descriptors = fds_open();
	ward = calloc(1, sizeof(*ward));
	snprintf(rig.dir, sizeof(rig.dir), "/tmp/test-broker-XXXXXX");
	if (!ward || !mkdtemp(rig.dir))
		return -1;
	rig.dir_fd = open(rig.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(rig.dir_fd, "store", 0700) < 0 || mkdirat(rig.dir_fd, "root", 0755) < 0 ||
	    mkdirat(rig.dir_fd, "overlay", 0755) < 0)
		return -1;
	settings_default(&ward->settings);
	ward->settings.fetchers = 1;
	ward->fd_listen = ward->fd_content = ward->fd_exec = -1;
	ward->fd_store = openat(rig.dir_fd, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ward->fd_inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	ward->fd_keep = pair[0];
	rig.engine = pair[1];
	make_store(ward->fd_store);
	rig.broker.ward = rig.broker.birth.ward = ward;
	rig.broker.birth.slots = &rig.slots;
	rig.broker.birth.descriptors = 1024;
	return loop_new(&rig.broker.loop);
}

static void end_fetchers(void)
{
	for (int i = 0; i < WARD_FETCHERS; i++) {
		struct ward_fetcher *f = &ward->fetcher[i];

		if (!f->pid)
			continue;
		rig.broker.watch[i].io = loop_remove_io(rig.broker.watch[i].io);
		syscall(SYS_pidfd_send_signal, f->pidfd, SIGKILL, NULL, 0);
		waitid(P_PIDFD, (id_t)f->pidfd, NULL, WEXITED);
		close(f->pidfd);
	}
}

static int down(void **state)
{
	end_fetchers();
	for (int i = 0; i < LIMIT_MOUNTED; i++)
		if (atomic_load(&ward->layer[i].state) != WARD_FREE)
			broker_layer_reset(ward, &ward->layer[i]);
	loop_free(rig.broker.loop);
	cleanup_closep(&rig.fd);
	close(ward->fd_store);
	close(ward->fd_inotify);
	close(ward->fd_keep);
	close(rig.engine);
	/* Also what a test that failed had yet to take away. */
	assert_int_equal(scratch_remove(rig.dir), 0);
	close(rig.dir_fd);
	free(ward);
	/* Whatever was refused, nothing of it stays open. */
	assert_int_equal(fds_open(), rig.descriptors);
	return 0;
}

/* --- asking --- */

/* Takes one message; false when there is none. */
static bool hear(struct keep_reply *rep)
{
	int fds[KEEP_FDS_MAX], nfds = 0;
	char byte;

	if (recv(rig.engine, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		return false;
	assert_int_equal(keep_recvmsg(rig.engine, rep, sizeof(*rep), fds, KEEP_FDS_MAX, &nfds),
			 sizeof(*rep));
	assert_int_equal(rep->nfds, nfds);
	cleanup_closep(&rig.fd);
	rig.fd = nfds > 0 ? fds[0] : -1;
	for (int i = 1; i < nfds; i++)
		close(fds[i]);
	return true;
}

/* Sends @len bytes; what is told before the answer is in rig.told. Has it been answered? */
static bool ask_bytes(const void *rq, size_t len)
{
	rig.ntold = 0;
	memset(&rig.answer, 0, sizeof(rig.answer));
	assert_int_equal(keep_sendmsg(rig.engine, rq, len, NULL, 0), 0);
	broker_request(&rig.broker, 0);
	while (hear(&rig.answer)) {
		if (rig.answer.seq != 0)
			return true;
		assert_true(rig.ntold < TOLD_MAX);
		rig.told[rig.ntold++] = rig.answer;
	}
	return false;
}

/* Returns the result. */
static int ask(const struct keep_request *rq)
{
	static struct keep_request copy;

	copy = *rq;
	copy.seq = 7;
	assert_true(ask_bytes(&copy, sizeof(copy)));
	assert_int_equal(rig.answer.op, rq->op);
	assert_int_equal(rig.answer.seq, 7);
	/* Every refusal has its words, and no refusal a descriptor. */
	if (rig.answer.result < 0)
		assert_true(rig.answer.text[0] && rig.answer.nfds == 0);
	return rig.answer.result;
}

static int ask_layer(uint32_t op)
{
	struct keep_request rq = {.op = op};

	rq.layer.diff_id = one();
	rq.layer.on = 1;
	return ask(&rq);
}

static int ask_file(uint32_t op, uint32_t kind)
{
	struct keep_request rq = {.op = op};

	rq.file.kind = kind;
	rq.file.key = one();
	return ask(&rq);
}

static struct keep_request attach_request(const char *id)
{
	struct keep_request rq = {.op = KEEP_ATTACH};

	snprintf(rq.attach.id, sizeof(rq.attach.id), "%s", id);
	rq.attach.kind = ATTACH_MOUNT;
	rq.attach.nlayers = 1;
	rq.attach.layer[0] = one();
	rq.attach.proved[0] = 1;
	return rq;
}

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, up, down)

#endif
