/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=mount_erofs -Wl,--wrap=mount_overlay -Wl,--wrap=lease_probe */
/* link: -Wl,--wrap=fan_mark_content -Wl,--wrap=fan_mark_fs -Wl,--wrap=spawn_fetcher */
/* link: -Wl,--wrap=fsync */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/broker_internal.h"
#include "plugin/fault/fan.h"
#include "plugin/mount/mounts.h"
#include "plugin/settings.h"
#include "plugin/spawn.h"
#include "plugin/store/files.h"

/*
 * Requests as an engine that was taken over would send them, to the real broker and a real store
 * of one layer. Mounting, marking and starting processes only look at what they are given.
 */

#define REQUESTS_MAX 16
#define AS_IT_IS     0x8000u /* of a request's length: nothing is added to make it whole */

static char dir[] = "/tmp/fuzz-keep-XXXXXX";
static int dir_fd = -1;
static bool dirty = true; /* the store is not as make_store() makes it */
static struct ward ward;
static struct slots slots;
static struct broker broker = {.ward = &ward, .birth = {.ward = &ward, .slots = &slots}};

/* --- what the broker stands on --- */

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return 0;
}

int __wrap_mount_erofs(int image_fd, int tar_fd, struct err *e);
int __wrap_mount_erofs(int image_fd, int tar_fd, struct err *e)
{
	if (image_fd < 0)
		abort();
	return openat(dir_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int __wrap_mount_overlay(const int *lower, unsigned n, int upper, int work, const char *label,
			 struct err *e);
int __wrap_mount_overlay(const int *lower, unsigned n, int upper, int work, const char *label,
			 struct err *e)
{
	const struct keep_attach *at = NULL;

	if (n == 0 || n > LIMIT_LAYERS + 1 || upper < 0 || work < 0 ||
	    strnlen(label, sizeof(at->label)) == sizeof(at->label))
		abort();
	for (unsigned i = 0; i < n; i++)
		if (lower[i] < 0)
			abort();
	return openat(dir_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void __wrap_lease_probe(int root_fd, const uint64_t *nids, unsigned n, uint8_t *granted);
void __wrap_lease_probe(int root_fd, const uint64_t *nids, unsigned n, uint8_t *granted)
{
	if (root_fd < 0 || n > LEASE_PROBE_MAX)
		abort();
	for (unsigned i = 0; i < n; i++)
		granted[i] = nids[i] & 1;
}

int __wrap_fan_mark_content(int group, int fd, bool on);
int __wrap_fan_mark_content(int group, int fd, bool on)
{
	return fd < 0 ? -EBADF : 0;
}

int __wrap_fan_mark_fs(int group, int mount_fd, uint64_t mask);
int __wrap_fan_mark_fs(int group, int mount_fd, uint64_t mask)
{
	return mount_fd < 0 ? -EBADF : 0;
}

/* A fetcher without a process: killing by a descriptor that is no pidfd does nothing. */
pid_t __wrap_spawn_fetcher(const struct birth *b, int *ret_pidfd, int *ret_sock, int *ret_buffer,
			   struct err *e);
pid_t __wrap_spawn_fetcher(const struct birth *b, int *ret_pidfd, int *ret_sock, int *ret_buffer,
			   struct err *e)
{
	static pid_t next = 1000;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		abort();
	*ret_pidfd = inotify_init1(IN_CLOEXEC);
	*ret_sock = p[0];
	*ret_buffer = p[1];
	return next++;
}

/* --- a store --- */

static void put_file(int store, const char *path)
{
	int fd = openat(store, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, 4096) < 0)
		abort();
	close(fd);
}

/* The layer whose digest is all ones, proved. */
static void make_store(void)
{
	static const char *const dirs[] = {"images",   "blobs",      "blobs/sha256", "layers",
					   "unproven", "containers", "layers/one",   NULL};
	char one[2 * DIGEST_SIZE + 1];
	int store, layers;

	if (mkdirat(dir_fd, "store", 0700) < 0)
		abort();
	store = openat(dir_fd, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store < 0)
		abort();
	for (size_t i = 0; dirs[i]; i++)
		if (mkdirat(store, dirs[i], 0700) < 0)
			abort();
	put_file(store, "layers/one/tar");
	put_file(store, "layers/one/image.erofs");
	put_file(store, "layers/one/index");
	layers = openat(store, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < DIGEST_SIZE; i++)
		memcpy(one + 2 * i, "01", 3);
	if (layers < 0 || renameat(layers, "one", layers, one) < 0)
		abort();
	close(layers);
	close(store);
	dirty = false;
}

static void remove_all(void)
{
	fd_remove_tree(dir_fd, "store");
	unlinkat(dir_fd, "root", AT_REMOVEDIR);
	unlinkat(dir_fd, "beside", 0);
	rmdir(dir);
}

static void begin(void)
{
	if (dir_fd >= 0)
		return;
	if (!mkdtemp(dir))
		abort();
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || mkdirat(dir_fd, "root", 0755) < 0 || atexit(remove_all) != 0)
		abort();
	put_file(dir_fd, "beside");
	if (loop_new(&broker.loop) < 0)
		abort();
}

static void set_up(int *ret_engine)
{
	int pair[2], big = 1 << 20;

	memset(&ward, 0, sizeof(ward));
	settings_default(&ward.settings);
	ward.settings.fetchers = 1;
	ward.fd_listen = ward.fd_content = ward.fd_exec = -1;
	ward.fd_inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (ward.fd_inotify < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	ward.fd_keep = pair[0];
	*ret_engine = pair[1];
	if (dirty)
		make_store();
	ward.fd_store = openat(dir_fd, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Everything that requests may touch is in the store. */
static void tear_down(int engine)
{
	if (faccessat(dir_fd, "beside", F_OK, 0) < 0 || faccessat(dir_fd, "root", F_OK, 0) < 0)
		abort();
	for (int i = 0; i < WARD_FETCHERS; i++) {
		if (!ward.fetcher[i].pid)
			continue;
		broker.watch[i].io = loop_remove_io(broker.watch[i].io);
		close(ward.fetcher[i].pidfd);
	}
	for (int i = 0; i < LIMIT_MOUNTED; i++)
		if (atomic_load(&ward.layer[i].state) != WARD_FREE)
			broker_layer_reset(&ward, &ward.layer[i]);
	close(ward.fd_inotify);
	close(ward.fd_keep);
	close(ward.fd_store);
	close(engine);
	if (dirty && fd_remove_tree(dir_fd, "store") < 0)
		abort();
}

/* --- asking --- */

static bool changes_store(uint32_t op)
{
	return (op >= KEEP_FILE_CREATE && op <= KEEP_LAYER_DROP) || op == KEEP_ATTACH ||
	       op == KEEP_DETACH_DONE;
}

/* The next thing the broker said; false when it has said no more. */
static bool next_message(int engine, struct keep_reply *rep)
{
	int fds[KEEP_FDS_MAX], nfds = 0;
	uint8_t byte;

	if (recv(engine, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		return false;
	if (keep_recvmsg(engine, rep, sizeof(*rep), fds, KEEP_FDS_MAX, &nfds) != sizeof(*rep))
		abort();
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	if (rep->nfds != (uint32_t)nfds || rep->result > 0 ||
	    !memchr(rep->text, '\0', sizeof(rep->text)))
		abort();
	return true;
}

/* The last that the broker says is the answer to @rq; NULL: that was none, and has none. */
static void hear(int engine, const struct keep_request *rq)
{
	static struct keep_reply rep;
	bool answered = false;

	while (next_message(engine, &rep)) {
		if (answered)
			abort();
		answered = rep.op < KEEP_TELL_BEGIN || rep.seq != 0;
	}
	if (answered != (rq != NULL))
		abort();
	if (!rq)
		return;
	if (rep.op != rq->op || rep.seq != rq->seq || (rep.result < 0 && !rep.text[0]))
		abort();
}

static void ask(int engine, const uint8_t *data, size_t len, bool whole)
{
	static struct keep_request rq;

	memset(&rq, 0, sizeof(rq));
	memcpy(&rq, data, len < sizeof(rq) ? len : sizeof(rq));
	if (whole)
		len = sizeof(rq);
	/* Its own messages' numbers and no sequence: such an answer could not be told from them. */
	if (rq.op >= KEEP_TELL_BEGIN && rq.seq == 0)
		return;
	dirty = dirty || changes_store(rq.op);
	if (keep_sendmsg(engine, whole ? (const void *)&rq : data, len, NULL, 0) < 0)
		return;
	broker_request(&broker, 0);
	hear(engine, len == sizeof(rq) ? &rq : NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Each request has its length before it, and is made whole with zeros. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = bytes_of(data, size);
	int engine = -1;

	begin();
	set_up(&engine);
	for (int i = 0; i < REQUESTS_MAX && b.left > 2; i++) {
		uint32_t head = (uint32_t)bytes_le(&b, 2);
		size_t len = head & ~AS_IT_IS;
		const uint8_t *p;

		len = len < b.left ? len : b.left;
		p = bytes_take(&b, len);
		if (len > 0)
			ask(engine, p, len, !(head & AS_IT_IS));
	}
	tear_down(engine);
	return 0;
}
