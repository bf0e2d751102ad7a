/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's layers: marked, mounted once, probed, unmounted. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker_internal.h"
#include "plugin/descriptors.h"
#include "plugin/fault/fan.h"
#include "plugin/fdstore.h"
#include "plugin/log.h"
#include "plugin/mount/mounts.h"
#include "plugin/others.h"
#include "plugin/store/files.h"
#include "plugin/uapi.h"

_Static_assert(KEEP_LEASE_MAX <= LEASE_PROBE_MAX, "a request is probed in one go");

/* How often, and for how long each time, the kernel is given to let go of a tar. */
#define RELEASE_WAIT_US 10000
#define RELEASE_TRIES   100 /* after it was unmounted */
#define SHARED_TRIES    10  /* before it is mounted: somebody may just be done with it */

struct ward_layer *broker_layer(struct broker *b, const struct digest *diff_id,
				const struct digest *scope)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &b->ward->layer[i];

		if (atomic_load(&l->state) == WARD_LIVE && digest_equal(&l->diff_id, diff_id) &&
		    digest_equal(&l->scope, scope))
			return l;
	}
	return NULL;
}

int broker_describe_layer(struct broker *b, const struct ward_layer *l, struct answer *a)
{
	a->rep.layer.diff_id = l->diff_id;
	a->rep.layer.scope = l->scope;
	a->rep.layer.tar_dev = l->tar_dev;
	a->rep.layer.tar_ino = l->tar_ino;
	a->rep.layer.fs_dev = l->fs_dev;
	a->rep.layer.marked = l->marked;
	a->fds[0] = fcntl(l->fd_fill, F_DUPFD_CLOEXEC, 0);
	a->fds[1] = l->fd_image < 0 ? -1 : fcntl(l->fd_image, F_DUPFD_CLOEXEC, 0);
	a->nfds = l->fd_image < 0 ? 1 : 2;
	if (a->fds[0] >= 0 && (a->fds[1] >= 0 || a->nfds == 1))
		return 0;
	cleanup_closep(&a->fds[0]);
	cleanup_closep(&a->fds[1]);
	a->nfds = 0;
	return err_errno(&a->err, -EMFILE, "handing over a layer");
}

static uint64_t fs_mask(uint32_t flags)
{
	return (flags & KEEP_MARK_EXEC ? FAN_OPEN_EXEC_PERM : 0) |
	       (flags & KEEP_MARK_OPEN ? FAN_OPEN_PERM : 0);
}

void broker_layer_reset(struct ward *w, struct ward_layer *l)
{
	/* Whoever goes on after us finds half of it otherwise, and takes that for a layer. */
	atomic_store(&l->state, WARD_BUSY);
	fdstore_layer_gone(w, l);
	ward_close(&l->fd_mount);
	ward_close(&l->fd_image);
	ward_close(&l->fd_fill);
	l->users = 0;
	l->shared = 0;
	l->nothers = 0;
	l->marked = 0;
	l->fs_mask = 0;
	atomic_store(&l->state, WARD_FREE);
}

static struct ward_layer *layer_claim(struct broker *b, const struct keep_layer *rq, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct ward_layer *l = &b->ward->layer[i];

		if (atomic_load(&l->state) == WARD_FREE) {
			l->fd_mount = l->fd_image = l->fd_fill = -1;
			l->tar_dev = l->tar_ino = l->fs_dev = 0;
			l->diff_id = rq->diff_id;
			l->scope = rq->scope;
			atomic_store(&l->state, WARD_BUSY);
			return l;
		}
	}
	return NULL;
}

/*
 * The fill descriptor is opened while no mark is on, so that it raises no events for as long as
 * it lives; a mark that an earlier life left behind is taken off first.
 */
static int open_fill(struct broker *b, const struct keep_file *f, struct err *e)
{
	_cleanup_fd_ int path = store_file_open(b->ward->fd_store, f, O_PATH, e);

	if (path < 0)
		return path;
	fan_mark_content(b->ward->fd_content, path, false);
	return store_file_open(b->ward->fd_store, f, O_RDWR, e);
}

static int layer_stat(int fd, uint64_t *dev, uint64_t *ino, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "a layer");
	*dev = st.st_dev;
	*ino = st.st_ino;
	return 0;
}

/*
 * Has anybody else the tar open? Only then no lease on it is granted: EROFS keeps its device file
 * open while the superblock lives (KERNEL.md).
 */
static bool tar_released(int fd_fill, int tries)
{
	while (tries-- > 0) {
		if (fcntl(fd_fill, F_SETLEASE, F_WRLCK) == 0) {
			fcntl(fd_fill, F_SETLEASE, F_UNLCK);
			return true;
		}
		usleep(RELEASE_WAIT_US);
	}
	return false;
}

/*
 * Containers that outlived a whole tarnd read through a superblock that nobody holds any more; what
 * is idle in ours may be in use in theirs (law 8).
 */
static void look_for_others(struct broker *b, struct ward_layer *l)
{
	char text[DIGEST_TEXT];

	l->nothers = 0;
	l->shared = !tar_released(l->fd_fill, SHARED_TRIES);
	if (!l->shared)
		return;
	others_look(b->ward->fd_store, l);
	log_warn("layer %s is in use by others, as by containers that a tarnd which was killed "
		 "left: it is not evicted while %s",
		 digest_text(&l->diff_id, text), l->nothers ? "they are there" : "it is mounted");
}

/* A mount that is recorded is whole: who records it and is killed may do it in a LIVE layer. */
static int layer_mount_fs(struct broker *b, struct ward_layer *l, struct err *e)
{
	_cleanup_fd_ int fd = mount_erofs(l->fd_image, l->fd_fill, e);
	uint64_t root;
	int r = fd;

	if (r < 0)
		return r;
	r = fan_mark_fs(b->ward->fd_exec, fd, FAN_OPEN_EXEC_PERM);
	if (r < 0)
		return err_errno(e, r, "marking a layer's file system");
	l->fs_mask = KEEP_MARK_EXEC;
	mount_set_readahead(fd, b->ward->settings.erofs_ra_kb);
	r = layer_stat(fd, &l->fs_dev, &root, e);
	if (r == 0)
		r = others_note(b->ward->fd_store, l, fd, e);
	if (r < 0)
		return r;
	l->fd_mount = take_fd(&fd);
	fdstore_layer(b->ward, l);
	return 0;
}

/* Mark before mount, always (law 1); also for a complete layer, or it could never be evicted. */
static int layer_supervise(struct broker *b, struct ward_layer *l, struct err *e)
{
	struct keep_file f = {.kind = KEEP_TAR, .key = l->diff_id, .scope = l->scope};
	int r = l->fd_fill = open_fill(b, &f, e);

	if (r >= 0)
		r = layer_stat(l->fd_fill, &l->tar_dev, &l->tar_ino, e);
	if (r < 0)
		return r;
	look_for_others(b, l);
	r = fan_mark_content(b->ward->fd_content, l->fd_fill, true);
	if (r < 0)
		return err_errno(e, r, "marking a layer's tar");
	l->marked = 1;
	return 0;
}

static int layer_open_and_mount(struct broker *b, struct ward_layer *l, struct err *e)
{
	struct keep_file f = {.kind = KEEP_IMAGE, .key = l->diff_id, .scope = l->scope};
	int r = l->fd_image = store_file_open(b->ward->fd_store, &f, O_RDONLY, e);

	return r < 0 ? r : layer_mount_fs(b, l, e);
}

/*
 * We unmounted it, and the tar is open still. While that is our superblock which takes its time, a
 * second one beside it would make the proof of idleness worthless. Where there is no proof anyway,
 * containers shall start.
 */
static int layer_mount_again(struct broker *b, struct ward_layer *l, struct err *e)
{
	int r;

	if (!l->shared)
		return err_set(e, -EBUSY, "the layer is still being unmounted");
	r = fan_mark_content(b->ward->fd_content, l->fd_fill, true);
	if (r < 0)
		return err_errno(e, r, "marking a layer's tar");
	l->marked = 1;
	r = l->fd_image < 0 ? layer_open_and_mount(b, l, e) : layer_mount_fs(b, l, e);
	if (r < 0)
		broker_layer_let_go(b, l); /* the next try may find another image */
	return r;
}

static void layer_undo(struct broker *b, struct ward_layer *l)
{
	atomic_store(&l->state, WARD_BUSY);
	ward_close(&l->fd_mount);
	if (l->fd_fill >= 0)
		fan_mark_content(b->ward->fd_content, l->fd_fill, false);
	broker_layer_reset(b->ward, l);
}

static void layer_close_mount(struct broker *b, struct ward_layer *l)
{
	if (l->fd_mount >= 0)
		fan_mark_fs(b->ward->fd_exec, l->fd_mount, 0);
	fdstore_mount_gone(b->ward, l);
	ward_close(&l->fd_mount);
}

int broker_layer_take_down(struct broker *b, struct ward_layer *l)
{
	if (l->users > 0)
		return -EBUSY;
	if (others_live(l))
		return -ETXTBSY;
	layer_close_mount(b, l);
	if (!tar_released(l->fd_fill, l->shared ? 1 : RELEASE_TRIES))
		return -EBUSY;
	others_forget(b->ward->fd_store, l);
	layer_undo(b, l);
	return 0;
}

int broker_layer_new(struct broker *b, const struct keep_layer *rq, struct ward_layer **ret,
		     struct err *e)
{
	struct ward_layer *l = layer_claim(b, rq, descriptors_layers(b->birth.descriptors));
	int r;

	if (!l)
		return err_set(e, -ENOSPC,
			       "more than %u layers mounted at once (%u descriptors: ulimit -n, "
			       "LimitNOFILE=)",
			       descriptors_layers(b->birth.descriptors), b->birth.descriptors);
	r = layer_supervise(b, l, e);
	if (r == 0)
		r = layer_open_and_mount(b, l, e);
	if (r < 0) {
		layer_undo(b, l);
		return r;
	}
	atomic_store(&l->state, WARD_LIVE);
	*ret = l;
	return 0;
}

int broker_layer_lost(struct broker *b, const struct keep_layer *rq, struct ward_layer **ret,
		      struct err *e)
{
	struct ward_layer *l = layer_claim(b, rq, LIMIT_MOUNTED);
	int r = l ? layer_supervise(b, l, e) : err_set(e, -ENOSPC, "too many layers mounted");

	if (r == 0) {
		fdstore_layer(b->ward, l);
		atomic_store(&l->state, WARD_LIVE);
		r = layer_open_and_mount(b, l, e);
	}
	if (r == 0 || (l && l->marked && broker_layer_let_go(b, l)))
		*ret = l;
	else if (l)
		layer_undo(b, l);
	return r;
}

bool broker_layer_let_go(struct broker *b, struct ward_layer *l)
{
	if (l->users > 0 || !l->shared)
		return false;
	layer_close_mount(b, l);
	ward_close(&l->fd_image);
	fdstore_layer(b->ward, l);
	return true;
}

int broker_layer_mount(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct ward_layer *l = broker_layer(b, &rq->layer.diff_id, &rq->layer.scope);
	int r = 0;

	if (l && l->fd_mount < 0 && broker_layer_take_down(b, l) == 0)
		l = NULL;
	a->rep.layer.fresh = !l || l->fd_mount < 0;
	if (!l)
		r = broker_layer_new(b, &rq->layer, &l, &a->err);
	else if (l->fd_mount < 0)
		r = layer_mount_again(b, l, &a->err);
	return r < 0 ? r : broker_describe_layer(b, l, a);
}

static struct ward_layer *named_layer(struct broker *b, const struct keep_request *rq,
				      struct answer *a)
{
	struct ward_layer *l = broker_layer(b, &rq->layer.diff_id, &rq->layer.scope);

	if (!l)
		err_set(&a->err, -ENOENT, "the layer is not mounted");
	return l;
}

int broker_layer_umount(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct ward_layer *l = broker_layer(b, &rq->layer.diff_id, &rq->layer.scope);
	int r;

	if (!l)
		return 0;
	broker_drain_inotify(b);
	r = broker_layer_take_down(b, l);
	return r < 0 ? err_set(&a->err, r, "the layer is in use") : 0;
}

int broker_mark(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct ward_layer *l = named_layer(b, rq, a);
	int r;

	if (!l)
		return -ENOENT;
	r = fan_mark_content(b->ward->fd_content, l->fd_fill, rq->layer.on);
	if (r < 0)
		return err_errno(&a->err, r, "marking a layer's tar");
	l->marked = rq->layer.on != 0;
	return 0;
}

int broker_exec_mark(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct ward_layer *l = named_layer(b, rq, a);
	int r;

	if (!l)
		return -ENOENT;
	if (rq->layer.flags & ~(KEEP_MARK_EXEC | KEEP_MARK_OPEN))
		return err_set(&a->err, -EINVAL, "no such marks: %x", rq->layer.flags);
	if (l->fd_mount < 0)
		return err_set(&a->err, -EBUSY, "the layer is being unmounted");
	r = fan_mark_fs(b->ward->fd_exec, l->fd_mount, fs_mask(rq->layer.flags));
	if (r < 0)
		return err_errno(&a->err, r, "marking a layer's file system");
	l->fs_mask = rq->layer.flags;
	return 0;
}

int broker_lease(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct ward_layer *l = broker_layer(b, &rq->lease.diff_id, &rq->lease.scope);
	_cleanup_fd_ int root = -1;

	if (!l || l->fd_mount < 0)
		return err_set(&a->err, -ENOENT, "the layer is not mounted");
	if (rq->lease.n > KEEP_LEASE_MAX)
		return err_set(&a->err, -EINVAL, "too many files in one request");
	root = openat(l->fd_mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_errno(&a->err, -errno, "a layer's root directory");
	a->rep.lease.n = rq->lease.n;
	a->rep.lease.shared = others_live(l) || l->shared;
	if (a->rep.lease.shared)
		return 0; /* none granted */
	lease_probe(root, rq->lease.nid, rq->lease.n, a->rep.lease.granted);
	return 0;
}
