/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/mount/sign.h"
#include "plugin/store/build.h"
#include "plugin/store/claim.h"
#include "plugin/store/ingest.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/load_impl.h"

/* How long a layer that is wanted again is waited for while it is being unmounted: 2 s. */
#define BUSY_TRIES   20
#define BUSY_WAIT_US 100000
/* A mounted layer that cannot be read is tried so often more, after pauses that double: 1.5 s. */
#define ADOPT_AGAIN    4
#define ADOPT_PAUSE_US 100000u

/* What a task asks of the loop about one layer. */
struct ask {
	struct engine *en;
	const struct digest *diff_id, *scope;
	struct layer *l;
};

/* --- the list; loop thread --- */

static int find(void *ctx)
{
	struct ask *a = ctx;

	a->l = engine_layer(a->en, a->diff_id, a->scope);
	return a->l != NULL;
}

/* A reference to a layer that is mounted for good. 1 when there is one. */
static int find_and_ref(void *ctx)
{
	struct ask *a = ctx;

	if (!find(ctx) || a->l->unmounting)
		return 0;
	a->l->refs++;
	return 1;
}

static int ref_again(void *ctx)
{
	struct ask *a = ctx;

	a->l->unmounting = false;
	a->l->refs++;
	return 0;
}

static int insert(void *ctx)
{
	struct ask *a = ctx;
	struct layer *l = a->l;

	engine_layer_add(a->en, l);
	slots_mounted(a->en->slots, l->fs_dev, mount_sign(l->fs_dev));
	if (l->complete)
		layer_completed(a->en, l);
	else if (l->nclean == l->index.nspans)
		flight_check_complete(a->en->flight, l);
	fault_layer_ready(a->en, l);
	return 0;
}

void layer_completed(struct engine *en, struct layer *l)
{
	struct keep_request req = {.op = KEEP_MARK, .layer.diff_id = l->diff_id};

	l->complete = true;
	if (l->evicting)
		return;
	req.layer.scope = l->scope;
	if (l->marked && keep_send(en->keep, &req) == 0)
		l->marked = false;
	req.op = KEEP_EXEC_MARK;
	if (l->exec_marked && keep_send(en->keep, &req) == 0)
		l->exec_marked = 0;
}

/* --- mounting; the caller has the claim --- */

int layer_ask(struct engine *en, enum keep_op op, const struct digest *diff_id,
	      const struct digest *scope, struct keep_reply *rep, int fds[2], struct err *e)
{
	struct keep_request req = {.op = op, .layer.diff_id = *diff_id, .layer.scope = *scope};
	char text[DIGEST_TEXT];
	int r;

	fds[0] = fds[1] = -1;
	r = keep_call(en->keep, &req, rep, fds, op == KEEP_LAYER_MOUNT ? 2 : 0, e);
	if (r == 0 && op == KEEP_LAYER_MOUNT && (fds[0] < 0 || fds[1] < 0))
		r = err_set(e, -EPROTO, "the keeper sent no descriptors");
	return r < 0 ? err_wrap(e, r, "layer %s", digest_text(diff_id, text)) : 0;
}

static void close_both(int fds[2])
{
	cleanup_closep(&fds[0]);
	cleanup_closep(&fds[1]);
	fds[0] = fds[1] = -1;
}

static int make_image(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		      struct err *e)
{
	_cleanup_free_ void *bytes = NULL;
	char what[DIGEST_TEXT + 8] = "layer ";
	struct index ix;
	int r;

	digest_text(diff_id, what + strlen(what));
	r = layer_index_read(en, diff_id, scope, &ix, &bytes, e);
	if (r < 0)
		return r;
	log_info("%s: image.erofs is made anew", what);
	return layer_image_write(en, &ix, scope, what, e);
}

/* Once more after image.erofs was made anew, if that may be what is wrong. */
static int mount_and_build(struct engine *en, const struct digest *diff_id,
			   const struct digest *scope, bool again, struct layer **ret,
			   struct err *e)
{
	struct keep_reply rep;
	bool image_bad = false, fresh = false;
	int fds[2], r;

	r = layer_ask(en, KEEP_LAYER_MOUNT, diff_id, scope, &rep, fds, e);
	if (r == 0) {
		fresh = rep.layer.fresh;
		r = layer_build(en, &rep, fds, &image_bad, ret, e);
	} else {
		image_bad = r == -ENOENT || r == -EINVAL || r == -EUCLEAN || r == -EBADMSG;
		fresh = image_bad;
	}
	close_both(fds);
	if (r == 0)
		return 0;
	if (fresh) {
		int none[2];

		(void)layer_ask(en, KEEP_LAYER_UMOUNT, diff_id, scope, &rep, none, NULL);
	}
	if (!image_bad || !fresh || again)
		return r;
	r = make_image(en, diff_id, scope, e);
	return r < 0 ? r : mount_and_build(en, diff_id, scope, true, ret, e);
}

/* --- one or the other --- */

/* A superblock whose last user has just gone takes its time to follow. */
static int wait_umount(struct engine *en, struct layer *l)
{
	int r = layer_finish_umount(en, l);

	/* Not for one that others use: it stays mounted, and is used again as it is. */
	for (int i = 0; r < 0 && r != -ETXTBSY && i < BUSY_TRIES; i++) {
		usleep(BUSY_WAIT_US);
		r = layer_finish_umount(en, l);
	}
	return r;
}

/*
 * The kernel had not let go of it when it was to be unmounted. If it has now, it is gone after
 * this; if the keeper has the mount still, it is used again.
 */
static int revive(struct engine *en, struct layer *l, struct layer **ret, struct err *e)
{
	struct ask a = {.en = en, .l = l};
	struct keep_reply rep;
	int fds[2], r;

	r = wait_umount(en, l);
	if (r == 0)
		return 0;
	r = layer_ask(en, KEEP_LAYER_MOUNT, &l->diff_id, &l->scope, &rep, fds, e);
	if (r < 0)
		return r;
	close_both(fds);
	if (!rep.layer.fresh) {
		loop_call(en->loop, ref_again, &a);
		*ret = l;
		return 0;
	}
	/* Unmounted by itself and mounted anew in the same call: what we have is of the old one. */
	layer_forget(en, l);
	return 0;
}

int layer_mount(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		struct layer **ret, struct err *e)
{
	struct ask a = {.en = en, .diff_id = diff_id, .scope = scope};
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	struct layer *l = NULL;
	int r = 0;

	claim_take(&c, CLAIM_MOUNT, diff_id, NULL, NULL);
	if (loop_call(en->loop, find_and_ref, &a)) {
		*ret = a.l;
		return 0;
	}
	if (a.l)
		r = revive(en, a.l, &l, e);
	if (r == 0 && !l) {
		r = mount_and_build(en, diff_id, scope, false, &l, e);
		if (r < 0)
			return r;
		l->refs = 1;
		a.l = l;
		loop_call(en->loop, insert, &a);
	}
	if (r == 0)
		*ret = l;
	return r;
}

/* Its readers get EIO without it, so that what may pass is waited for. */
static int build_patiently(struct engine *en, const struct keep_reply *msg, int fds[2],
			   bool *ret_image_bad, struct layer **ret, struct err *e)
{
	int r = layer_build(en, msg, fds, ret_image_bad, ret, e);

	for (int i = 0; r < 0 && r != -EBADMSG && i < ADOPT_AGAIN; i++) {
		usleep(ADOPT_PAUSE_US << i);
		*e = (struct err)ERR_INIT;
		r = layer_build(en, msg, fds, ret_image_bad, ret, e);
	}
	return r;
}

/*
 * Where the keeper has no image, or none that is any good, one is made; it refuses that where
 * somebody uses what is mounted.
 */
static int adopt(struct engine *en, const struct keep_reply *msg, int fds[2], struct layer **ret,
		 struct err *e)
{
	const struct digest *diff_id = &msg->layer.diff_id, *scope = &msg->layer.scope;
	struct err why = ERR_INIT;
	bool image_bad;
	int r;

	if (fds[1] < 0)
		return mount_and_build(en, diff_id, scope, false, ret, e);
	r = build_patiently(en, msg, fds, &image_bad, ret, e);
	if (r == 0 || !image_bad || make_image(en, diff_id, scope, &why) < 0)
		return r;
	*e = (struct err)ERR_INIT;
	return mount_and_build(en, diff_id, scope, true, ret, e);
}

int layer_adopt(struct engine *en, const struct keep_reply *msg, int fds[2], struct err *e)
{
	struct ask a = {.en = en, .diff_id = &msg->layer.diff_id, .scope = &msg->layer.scope};
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	int r = 0;

	claim_take(&c, CLAIM_MOUNT, &msg->layer.diff_id, NULL, NULL);
	if (!loop_call(en->loop, find, &a)) {
		r = adopt(en, msg, fds, &a.l, e);
		if (r == 0)
			loop_call(en->loop, insert, &a);
	}
	close_both(fds);
	return r;
}

/* #syscalls engine: fcntl@1=F_DUPFD_CLOEXEC */
static int resident(void *ctx)
{
	struct ask *a = ctx;

	/* A descriptor of its own: the layer may go while the file system is asked. */
	return find(ctx) ? fcntl(a->l->fd_fill, F_DUPFD_CLOEXEC, 3) : -ENOENT;
}

uint64_t layer_resident(struct engine *en, const struct digest *diff_id, const struct digest *scope)
{
	struct ask a = {.en = en, .diff_id = diff_id, .scope = scope};
	struct keep_file f = file_of_layer(KEEP_TAR, diff_id, scope);
	_cleanup_fd_ int fd = loop_call(en->loop, resident, &a);
	int64_t n;

	/* Asking for its size raises no event, also where the tar is marked. */
	if (fd < 0 && file_open(en, &f, &fd, NULL) < 0)
		return 0;
	n = fd_resident(fd);
	return n > 0 ? (uint64_t)n : 0;
}
