/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's root file systems: overlays over mounted layers, watched until they are gone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker_internal.h"
#include "plugin/mount/mounts.h"
#include "plugin/store/files.h"

void broker_describe_attached(struct broker *b, const struct ward_attached *at, struct answer *a)
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
			err_set(e, -EEXIST, "container %s: its root file system is mounted already",
				id);
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
	const struct digest shared = {{0}};

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
	const struct keep_file f = {.kind = KEEP_PARENTS, .key = *image};
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
	if (!attach_kind_name(rq->kind))
		return err_set(&a->err, -EINVAL, "a root file system of no kind: %u", rq->kind);
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
		struct answer a = {.nfds = 0};

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

void broker_drain_inotify(struct broker *b)
{
	char raw[4096] __attribute__((aligned(8)));
	ssize_t n;

	while ((n = read(b->ward->fd_inotify, raw, sizeof(raw))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *ev = (const void *)(raw + at);

			/* IGNORED is the last word about a watch; it follows UNMOUNT. */
			if (ev->mask & IN_IGNORED)
				broker_detached(b, ev->wd);
			at += (ssize_t)(sizeof(*ev) + ev->len);
		}
	}
}
