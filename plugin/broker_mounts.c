/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/broker_internal.h"
#include "plugin/fault/fan.h"
#include "plugin/log.h"
#include "plugin/mount/mounts.h"
#include "plugin/store/files.h"
#include "plugin/uapi.h"

_Static_assert(KEEP_LEASE_MAX <= LEASE_PROBE_MAX, "a request is probed in one go");

/* How often, and for how long each time, the kernel is given to let go of a tar. */
#define RELEASE_WAIT_US 10000
#define RELEASE_TRIES   100 /* after it was unmounted */
#define SHARED_TRIES    10  /* before it is mounted: somebody may just be done with it */

/* --- layers --- */

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
	a->fds[1] = fcntl(l->fd_image, F_DUPFD_CLOEXEC, 0);
	a->nfds = 2;
	if (a->fds[0] >= 0 && a->fds[1] >= 0)
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

static void layer_reset(struct ward_layer *l)
{
	ward_close(&l->fd_mount);
	ward_close(&l->fd_image);
	ward_close(&l->fd_fill);
	l->users = 0;
	l->marked = 0;
	l->fs_mask = 0;
	atomic_store(&l->state, WARD_FREE);
}

static struct ward_layer *layer_claim(struct broker *b)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &b->ward->layer[i];

		if (atomic_load(&l->state) == WARD_FREE) {
			l->fd_mount = l->fd_image = l->fd_fill = -1;
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

static int layer_stat(struct ward_layer *l, struct err *e)
{
	struct stat tar, fs;

	if (fstat(l->fd_fill, &tar) < 0 || fstat(l->fd_mount, &fs) < 0)
		return err_errno(e, -errno, "a mounted layer");
	l->tar_dev = tar.st_dev;
	l->tar_ino = tar.st_ino;
	l->fs_dev = fs.st_dev;
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
static void look_for_others(struct ward_layer *l)
{
	char text[DIGEST_TEXT];

	l->shared = !tar_released(l->fd_fill, SHARED_TRIES);
	if (l->shared)
		log_warn("layer %s is in use by others, as by containers that a tarnd which was "
			 "killed left: it is not evicted while it is mounted",
			 digest_text(&l->diff_id, text));
}

static int layer_mount_fs(struct broker *b, struct ward_layer *l, struct err *e)
{
	int r = l->fd_mount = mount_erofs(l->fd_image, l->fd_fill, e);

	if (r < 0)
		return r;
	r = fan_mark_fs(b->ward->fd_exec, l->fd_mount, FAN_OPEN_EXEC_PERM);
	if (r < 0)
		return err_errno(e, r, "marking a layer's file system");
	l->fs_mask = KEEP_MARK_EXEC;
	mount_set_readahead(l->fd_mount, b->birth.slots->settings.erofs_ra_kb);
	return layer_stat(l, e);
}

/* Mark before mount, always (law 1); also for a complete layer, or it could never be evicted. */
static int layer_bring_up(struct broker *b, struct ward_layer *l, struct err *e)
{
	struct keep_file f = { .kind = KEEP_TAR, .key = l->diff_id, .scope = l->scope };
	int r = l->fd_fill = open_fill(b, &f, e);

	if (r < 0)
		return r;
	look_for_others(l);
	f.kind = KEEP_IMAGE;
	r = l->fd_image = store_file_open(b->ward->fd_store, &f, O_RDONLY, e);
	if (r < 0)
		return r;
	r = fan_mark_content(b->ward->fd_content, l->fd_fill, true);
	if (r < 0)
		return err_errno(e, r, "marking a layer's tar");
	l->marked = 1;
	return layer_mount_fs(b, l, e);
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
	r = layer_mount_fs(b, l, e);
	if (r < 0)
		ward_close(&l->fd_mount);
	return r;
}

static void layer_undo(struct broker *b, struct ward_layer *l)
{
	ward_close(&l->fd_mount);
	if (l->fd_fill >= 0)
		fan_mark_content(b->ward->fd_content, l->fd_fill, false);
	layer_reset(l);
}

/* 0, or -EBUSY while somebody still uses the file system: then it stays marked and ours. */
static int layer_take_down(struct broker *b, struct ward_layer *l)
{
	if (l->users > 0)
		return -EBUSY;
	if (l->fd_mount >= 0) {
		fan_mark_fs(b->ward->fd_exec, l->fd_mount, 0);
		ward_close(&l->fd_mount);
	}
	if (!tar_released(l->fd_fill, l->shared ? 1 : RELEASE_TRIES))
		return -EBUSY;
	layer_undo(b, l);
	return 0;
}

static int layer_mount_new(struct broker *b, const struct keep_layer *rq,
			   struct ward_layer **ret, struct err *e)
{
	struct ward_layer *l = layer_claim(b);
	int r;

	if (!l)
		return err_set(e, -ENOSPC, "more than %d layers mounted at once", LIMIT_MOUNTED);
	l->diff_id = rq->diff_id;
	l->scope = rq->scope;
	r = layer_bring_up(b, l, e);
	if (r < 0) {
		layer_undo(b, l);
		return r;
	}
	atomic_store(&l->state, WARD_LIVE);
	*ret = l;
	return 0;
}

int broker_layer_mount(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	struct ward_layer *l = broker_layer(b, &rq->layer.diff_id, &rq->layer.scope);
	int r = 0;

	if (l && l->fd_mount < 0 && layer_take_down(b, l) == 0)
		l = NULL;
	a->rep.layer.fresh = !l || l->fd_mount < 0;
	if (!l)
		r = layer_mount_new(b, &rq->layer, &l, &a->err);
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

	if (!l)
		return 0;
	broker_drain_inotify(b);
	return layer_take_down(b, l) < 0 ? err_set(&a->err, -EBUSY, "the layer is in use") : 0;
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
	if (l->shared)
		return 0; /* none granted */
	lease_probe(root, rq->lease.nid, rq->lease.n, a->rep.lease.granted);
	return 0;
}

/* --- attachments --- */

void broker_describe_attached(struct broker *b, const struct ward_attached *at,
			      struct answer *a)
{
	snprintf(a->rep.attach.id, sizeof(a->rep.attach.id), "%s", at->id);
	a->rep.attach.image = at->image;
	a->rep.attach.kind = at->kind;
	a->rep.attach.pid = at->pid;
	a->rep.attach.nlayers = at->nlayers;
	for (uint32_t i = 0; i < at->nlayers; i++) {
		const struct ward_layer *l = &b->ward->layer[at->layer[i]];

		a->rep.attach.layer[i] = l->diff_id;
		a->rep.attach.proved[i] = digest_is_zero(&l->scope);
	}
}

static struct ward_attached *attached_claim(struct broker *b, const char *id, struct err *e)
{
	struct ward_attached *found = NULL;

	for (int i = 0; i < WARD_ATTACHED; i++) {
		struct ward_attached *at = &b->ward->attached[i];
		uint32_t state = atomic_load(&at->state);

		if (state == WARD_LIVE && !strcmp(at->id, id)) {
			err_set(e, -EEXIST, "container %s has its root file system mounted "
				"already", id);
			return NULL;
		}
		if (state == WARD_FREE && !found)
			found = at;
	}
	if (!found)
		err_set(e, -ENOSPC, "more than %d root file systems at once", WARD_ATTACHED);
	return found;
}

static int find_lowers(struct broker *b, const struct keep_attach *rq, struct ward_attached *at,
		       int *lower, struct err *e)
{
	const struct digest shared = { { 0 } };

	for (uint32_t i = 0; i < rq->nlayers; i++) {
		struct ward_layer *l =
			broker_layer(b, &rq->layer[i], rq->proved[i] ? &shared : &rq->image);

		if (!l || l->fd_mount < 0)
			return err_set(e, -ENOENT, "layer %u is not mounted", i);
		at->layer[i] = (uint16_t)(l - b->ward->layer);
		lower[i] = l->fd_mount;
	}
	at->nlayers = rq->nlayers;
	return 0;
}

/*
 * The directories that upper layers imply and lower ones describe (oci/erofs/parents.h). Without
 * them the root file system would look right and be wrong, so they must be there if the image
 * needs them; the engine can make them again.
 */
static int mount_parents(struct broker *b, const struct digest *image, struct err *e)
{
	const struct keep_file f = { .kind = KEEP_PARENTS, .key = *image };
	_cleanup_fd_ int fd = store_file_open(b->ward->fd_store, &f, O_RDONLY, e);
	int r = fd < 0 ? fd : mount_erofs(fd, -1, e);

	if (r == -ENOENT || r == -EINVAL || r == -EBADMSG)
		e->code = r = -EUCLEAN;
	return r < 0 ? err_wrap(e, r, "the image's directories") : r;
}

static int make_overlay(struct broker *b, const struct keep_attach *rq, const int *lower,
			unsigned n, struct err *e)
{
	_cleanup_fd_ int root = openat(lower[n - 1], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int upper = -1;
	_cleanup_fd_ int work = -1;
	int r;

	if (root < 0)
		return err_errno(e, -errno, "the image's root directory");
	r = store_container_open(b->ward->fd_store, rq->id, root, &upper, &work, e);
	if (r < 0)
		return r;
	return mount_overlay(lower, n, upper, work, rq->label, e);
}

static int watch_overlay(struct broker *b, int fd, struct err *e)
{
	char path[32];
	int watch;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	watch = inotify_add_watch(b->ward->fd_inotify, path, IN_DELETE_SELF);
	return watch < 0 ? err_errno(e, -errno, "watching a root file system") : watch;
}

static int attach(struct broker *b, const struct keep_attach *rq, struct ward_attached *at,
		  struct err *e)
{
	int lower[LIMIT_LAYERS + 1];
	unsigned n = rq->nlayers;
	_cleanup_fd_ int parents = -1;
	_cleanup_fd_ int overlay = -1;
	int r = find_lowers(b, rq, at, lower, e);

	if (r < 0)
		return r;
	if (rq->parents) {
		parents = mount_parents(b, &rq->image, e);
		if (parents < 0)
			return parents;
		lower[n++] = parents;
	}
	overlay = make_overlay(b, rq, lower, n, e);
	if (overlay < 0)
		return overlay;
	r = at->watch = watch_overlay(b, overlay, e);
	return r < 0 ? r : take_fd(&overlay);
}

int broker_attach(struct broker *b, const struct keep_request *request, struct answer *a)
{
	const struct keep_attach *rq = &request->attach;
	struct ward_attached *at;
	int fd;

	if (!memchr(rq->id, '\0', sizeof(rq->id)) || !store_id_valid(rq->id))
		return err_set(&a->err, -EINVAL, "'%.*s' is no container id", LIMIT_ID, rq->id);
	if (rq->nlayers == 0 || rq->nlayers > LIMIT_LAYERS ||
	    !memchr(rq->label, '\0', sizeof(rq->label)))
		return err_set(&a->err, -EINVAL, "a root file system of %u layers", rq->nlayers);
	broker_drain_inotify(b);
	at = attached_claim(b, rq->id, &a->err);
	if (!at)
		return a->err.code;
	snprintf(at->id, sizeof(at->id), "%s", rq->id);
	at->image = rq->image;
	at->kind = rq->kind;
	at->pid = rq->pid;
	at->watch = -1;
	atomic_store(&at->state, WARD_BUSY);
	fd = attach(b, rq, at, &a->err);
	if (fd < 0) {
		atomic_store(&at->state, WARD_FREE);
		return fd;
	}
	atomic_store(&at->state, WARD_LIVE);
	for (uint32_t i = 0; i < at->nlayers; i++)
		b->ward->layer[at->layer[i]].users++;
	return answer_fd(a, fd);
}

void broker_detached(struct broker *b, int watch)
{
	for (int i = 0; i < WARD_ATTACHED; i++) {
		struct ward_attached *at = &b->ward->attached[i];
		struct answer a = { .nfds = 0 };

		if (atomic_load(&at->state) != WARD_LIVE || at->watch != watch)
			continue;
		/* Told first: told twice does no harm, never told keeps the layers for ever. */
		broker_describe_attached(b, at, &a);
		broker_tell(b, KEEP_TELL_DETACHED, &a);
		atomic_store(&at->state, WARD_FREE);
		for (uint32_t k = 0; k < at->nlayers; k++)
			b->ward->layer[at->layer[k]].users--;
	}
}

unsigned broker_umount_idle(struct broker *b)
{
	unsigned left = 0;

	broker_drain_inotify(b);
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &b->ward->layer[i];

		if (atomic_load(&l->state) == WARD_LIVE && layer_take_down(b, l) < 0)
			left++;
	}
	return left;
}

/* --- after a keeper that was killed --- */

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

struct fd_list {
	int v[LIMIT_MOUNTED * 3 + WARD_FETCHERS + 32];
	int n;
};

static void keep_open(void *ctx, int32_t *fd)
{
	struct fd_list *list = ctx;

	if (*fd > 2)
		list->v[list->n++] = *fd;
}

static void close_unrecorded(struct ward *w)
{
	struct fd_list *list = calloc(1, sizeof(*list));
	unsigned first = 3;

	if (!list)
		return;
	ward_each_fd(w, keep_open, list);
	qsort(list->v, (size_t)list->n, sizeof(list->v[0]), by_number);
	for (int i = 0; i < list->n; i++) {
		if ((unsigned)list->v[i] > first)
			close_range(first, (unsigned)list->v[i] - 1, 0);
		first = (unsigned)list->v[i] + 1;
	}
	close_range(first, ~0u, 0);
	free(list);
}

/* What inotify(7) has watches on, by its own account. -errno. */
static int read_watches(int fd_inotify, struct buf *out)
{
	char path[40];
	_cleanup_fd_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd_inotify);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd_read_all(fd, out);
}

static bool has_watch(const char *watches, int watch)
{
	char line[40];

	snprintf(line, sizeof(line), "inotify wd:%x ", (unsigned)watch);
	return strstr(watches, line) != NULL;
}

void broker_recover_detached(struct broker *b)
{
	_cleanup_buf_ struct buf text = { 0 };
	char store[32];
	const char *watches;
	int probe;

	/* One that is there for certain: without it in the list the list is not believed. */
	snprintf(store, sizeof(store), "/proc/self/fd/%d", b->ward->fd_store);
	probe = inotify_add_watch(b->ward->fd_inotify, store, IN_DELETE_SELF);
	buf_init(&text, LIMIT_FDINFO);
	watches = read_watches(b->ward->fd_inotify, &text) == 0 ? buf_cstr(&text) : NULL;
	if (!watches || probe < 0 || !has_watch(watches, probe))
		log_warn("which root file systems are still mounted cannot be checked");
	else
		inotify_rm_watch(b->ward->fd_inotify, probe);
	for (int i = 0; watches && has_watch(watches, probe) && i < WARD_ATTACHED; i++) {
		const struct ward_attached *at = &b->ward->attached[i];

		if (atomic_load(&at->state) == WARD_LIVE && !has_watch(watches, at->watch))
			broker_detached(b, at->watch);
	}
}

void broker_recover(struct broker *b)
{
	struct ward *w = b->ward;

	close_unrecorded(w);
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &w->layer[i];

		l->users = 0;
		if (atomic_load(&l->state) == WARD_BUSY) {
			/* Its descriptors were closed with the unrecorded ones. */
			l->fd_mount = l->fd_image = l->fd_fill = -1;
			layer_reset(l);
		}
	}
	for (int i = 0; i < WARD_ATTACHED; i++) {
		struct ward_attached *at = &w->attached[i];

		if (atomic_load(&at->state) == WARD_BUSY)
			atomic_store(&at->state, WARD_FREE);
		if (atomic_load(&at->state) != WARD_LIVE)
			continue;
		for (uint32_t k = 0; k < at->nlayers; k++)
			w->layer[at->layer[k]].users++;
	}
}
