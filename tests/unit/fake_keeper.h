/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FAKE_KEEPER_H
#define TESTS_UNIT_FAKE_KEEPER_H

/*
 * The keeper and the engine's loop, as far as the store's tasks can tell: files are made by the
 * keeper's own code in a directory of the test, mounting only hands out descriptors, and the loop
 * is whoever calls it. A test may have one request fail.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/keep.h"
#include "plugin/loop.h"
#include "plugin/store/files.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "tests/unit/fake_space.h"
#include "tests/unit/scratch.h"

struct fake_mount {
	struct digest diff_id;
	int fill, image; /* owned */
	bool used, marked;
	_Atomic bool busy;
	uint32_t exec_flags;
};

static struct {
	char dir[64];
	int store; /* its directory */
	struct fake_mount mount[8];
	/* The next request of this kind for this kind of file fails; then it is forgotten. */
	uint32_t fail_op, fail_kind;
	int fail_code;
	_Atomic unsigned creates[KEEP_KINDS], publishes[KEEP_KINDS], mounts, umounts;
	int (*fetcher)(int fds[2], int32_t *ret_pid);
	void (*fetcher_gone)(int32_t pid);
} fake;

/* The loop: one at a time. */
static pthread_mutex_t fake_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

/* A look at what the loop owns, while other threads may be at work. */
#define LOOP(expr)                                                                                 \
	({                                                                                         \
		__typeof__(expr) _v;                                                               \
		pthread_mutex_lock(&fake_lock);                                                    \
		_v = (expr);                                                                       \
		pthread_mutex_unlock(&fake_lock);                                                  \
		_v;                                                                                \
	})

static struct slots fake_slots;
static struct engine engine;

static void fake_start(void)
{
	static const char *const dirs[] = {"images", "blobs", "blobs/sha256", "layers", "unproven"};

	pthread_mutex_lock(&fake_lock);
	memset(&fake, 0, sizeof(fake));
	snprintf(fake.dir, sizeof(fake.dir), "/tmp/test-store-XXXXXX");
	assert_non_null(mkdtemp(fake.dir));
	fake.store = open(fake.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fake.store >= 0);
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		assert_int_equal(mkdirat(fake.store, dirs[i], 0700), 0);
	memset(&engine, 0, sizeof(engine));
	memset(&fake_slots, 0, sizeof(fake_slots));
	settings_default(&fake_slots.settings);
	engine.slots = &fake_slots;
	pthread_mutex_unlock(&fake_lock);
}

static void fake_stop(void)
{
	close(fake.store);
	assert_int_equal(scratch_remove(fake.dir), 0);
	for (size_t i = 0; i < ARRAY_LEN(fake.mount); i++) {
		if (fake.mount[i].used) {
			close(fake.mount[i].fill);
			close(fake.mount[i].image);
		}
	}
}

_unused_ static void fail_next(uint32_t op, uint32_t kind, int code)
{
	fake.fail_op = op;
	fake.fail_kind = kind;
	fake.fail_code = code;
}

static struct fake_mount *fake_mount_find(const struct digest *diff_id)
{
	for (size_t i = 0; i < ARRAY_LEN(fake.mount); i++)
		if (fake.mount[i].used && digest_equal(&fake.mount[i].diff_id, diff_id))
			return &fake.mount[i];
	return NULL;
}

static int fake_mount_new(const struct keep_layer *l, struct err *e)
{
	struct keep_file tar = file_of_layer(KEEP_TAR, &l->diff_id, &l->scope);
	struct keep_file image = file_of_layer(KEEP_IMAGE, &l->diff_id, &l->scope);
	struct fake_mount *m = fake.mount;

	while (m->used)
		m++;
	assert_true(m < fake.mount + ARRAY_LEN(fake.mount));
	m->fill = store_file_open(fake.store, &tar, O_RDWR, e);
	if (m->fill < 0)
		return m->fill;
	m->image = store_file_open(fake.store, &image, O_RDONLY, e);
	if (m->image < 0) {
		close(m->fill);
		return m->image;
	}
	*m = (struct fake_mount){.diff_id = l->diff_id,
				 .fill = m->fill,
				 .image = m->image,
				 .used = true,
				 .marked = true,
				 .exec_flags = KEEP_MARK_EXEC};
	fake.mounts++;
	return 0;
}

static int fake_layer_mount(const struct keep_layer *l, struct keep_reply *rep, int *fds,
			    struct err *e)
{
	struct fake_mount *m = fake_mount_find(&l->diff_id);
	struct stat st;
	int r;

	rep->layer.fresh = !m;
	if (!m) {
		r = fake_mount_new(l, e);
		if (r < 0)
			return r;
		m = fake_mount_find(&l->diff_id);
	}
	assert_int_equal(fstat(m->fill, &st), 0);
	rep->layer.diff_id = l->diff_id;
	rep->layer.scope = l->scope;
	rep->layer.tar_dev = st.st_dev;
	rep->layer.tar_ino = st.st_ino;
	rep->layer.marked = m->marked;
	fds[0] = fcntl(m->fill, F_DUPFD_CLOEXEC, 3);
	fds[1] = fcntl(m->image, F_DUPFD_CLOEXEC, 3);
	return 0;
}

static int fake_layer_umount(const struct keep_layer *l, struct err *e)
{
	struct fake_mount *m = fake_mount_find(&l->diff_id);

	if (!m)
		return 0;
	if (m->busy)
		return err_set(e, -EBUSY, "the layer is in use");
	close(m->fill);
	close(m->image);
	m->used = false;
	fake.umounts++;
	return 0;
}

static int fake_mark(const struct keep_request *rq)
{
	struct fake_mount *m = fake_mount_find(&rq->layer.diff_id);

	if (!m)
		return -ENOENT;
	if (rq->op == KEEP_MARK)
		m->marked = rq->layer.on;
	else
		m->exec_flags = rq->layer.flags;
	return 0;
}

static int fake_file(const struct keep_request *rq, int *fd, struct err *e)
{
	switch (rq->op) {
	case KEEP_FILE_OPEN:
		return *fd = store_file_open(fake.store, &rq->file, O_RDONLY, e);
	case KEEP_FILE_CREATE:
		fake.creates[rq->file.kind]++;
		return *fd = store_file_create(fake.store, &rq->file, e);
	case KEEP_FILE_PUBLISH:
		fake.publishes[rq->file.kind]++;
		return store_file_publish(fake.store, &rq->file, e);
	default:
		return store_file_drop(fake.store, &rq->file, e);
	}
}

static int fake_serve(const struct keep_request *rq, struct keep_reply *rep, int *fds,
		      struct err *e)
{
	switch (rq->op) {
	case KEEP_FILE_OPEN:
	case KEEP_FILE_CREATE:
	case KEEP_FILE_PUBLISH:
	case KEEP_FILE_DROP:
		return fake_file(rq, &fds[0], e);
	case KEEP_LAYER_DROP:
		if (fake_mount_find(&rq->layer.diff_id))
			return err_set(e, -EBUSY, "the layer is mounted");
		return store_layer_drop(fake.store, &rq->layer.diff_id, &rq->layer.scope, e);
	case KEEP_LIST:
		return fds[0] = store_list(fake.store, rq->list.kind, e);
	case KEEP_LAYOUT_OPEN:
		return fds[0] = store_layout_open(&rq->layout, e);
	case KEEP_LAYER_MOUNT:
		return fake_layer_mount(&rq->layer, rep, fds, e);
	case KEEP_LAYER_UMOUNT:
		return fake_layer_umount(&rq->layer, e);
	case KEEP_MARK:
	case KEEP_EXEC_MARK:
		return fake_mark(rq);
	case KEEP_FETCHER:
		return fake.fetcher ? fake.fetcher(fds, &rep->fetcher.pid) : -ENOSYS;
	case KEEP_FETCHER_GONE:
		if (fake.fetcher_gone)
			fake.fetcher_gone(rq->fetcher.pid);
		return 0;
	default:
		return err_set(e, -ENOSYS, "request %u is not faked", rq->op);
	}
}

static bool fake_fails(const struct keep_request *rq)
{
	bool of_file = rq->op >= KEEP_FILE_OPEN && rq->op <= KEEP_FILE_DROP;

	if (!fake.fail_code || rq->op != fake.fail_op)
		return false;
	return !of_file || !fake.fail_kind || rq->file.kind == fake.fail_kind;
}

int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e)
{
	int got[KEEP_FDS_MAX] = {-1, -1, -1, -1};
	int r;

	pthread_mutex_lock(&fake_lock);
	memset(rep, 0, sizeof(*rep));
	if (fake_fails(req)) {
		r = err_errno(e, fake.fail_code, "faked");
		fake.fail_code = 0;
	} else {
		r = fake_serve(req, rep, got, e);
	}
	pthread_mutex_unlock(&fake_lock);
	for (int i = 0; i < KEEP_FDS_MAX; i++) {
		if (i < maxfds)
			fds[i] = r < 0 ? -1 : got[i];
		else
			assert_true(got[i] < 0 || r < 0);
	}
	return r < 0 ? r : 0;
}

int keep_send(struct keep *k, struct keep_request *req)
{
	struct keep_reply rep;

	(void)keep_call(k, req, &rep, NULL, 0, NULL);
	return 0;
}

int loop_call(struct loop *l, int (*fn)(void *ctx), void *ctx)
{
	int r;

	pthread_mutex_lock(&fake_lock);
	r = fn(ctx);
	pthread_mutex_unlock(&fake_lock);
	return r;
}

int loop_after(struct loop *l, uint64_t ms, void (*fn)(void *ctx), void *ctx,
	       struct loop_timer **ret)
{
	fn(ctx);
	return 0;
}

int loop_post(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
	pthread_mutex_lock(&fake_lock);
	fn(ctx);
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* The content of a file of the store; -1 bytes when there is none. */
_unused_ static ssize_t fake_content(const struct keep_file *f, void *out, size_t size)
{
	_cleanup_fd_ int fd = store_file_open(fake.store, f, O_RDONLY, NULL);

	return fd < 0 ? -1 : read(fd, out, size);
}

#endif
