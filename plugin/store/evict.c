/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/evict.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/keep.h"
#include "plugin/loop.h"
#include "plugin/store/claim.h"
#include "plugin/store/evict_impl.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/pins.h"
#include "plugin/store/space.h"

#define TURN_US     20000
#define BEGIN_TRIES 3

/* --- on the loop --- */

static int begin(void *ctx)
{
	struct work *w = ctx;
	struct layer *l = engine_layer(w->en, &w->diff_id, &w->scope);

	w->counts = space_counts(w->en->space);
	if (!l || l->unmounting)
		return -ENOENT;
	if (l->evicting)
		return -EBUSY;
	l->evicting = true;
	l->refs++;
	w->l = l;
	w->was_complete = l->complete;
	return 0;
}

static int marks_on(void *ctx)
{
	struct work *w = ctx;

	/* From here on every read raises an event; it is not complete once something is gone. */
	w->l->marked = true;
	w->l->exec_marked = KEEP_MARK_EXEC | (w->want->deny ? KEEP_MARK_OPEN : 0);
	w->l->complete = false;
	return 0;
}

static int end(void *ctx)
{
	struct work *w = ctx;
	struct layer *l = w->l;

	l->evicting = false;
	l->exec_marked = KEEP_MARK_EXEC;
	if (l->nclean == l->index.nspans) {
		if (w->was_complete && w->done.freed == 0)
			layer_completed(w->en, l);
		else
			flight_check_complete(w->en->flight, l);
	}
	return 0;
}

/* --- in the task --- */

static int ask_mark(struct work *w, enum keep_op op, uint32_t on, uint32_t flags, struct err *e)
{
	struct keep_request req = {
		.op = op,
		.layer = {.diff_id = w->diff_id, .scope = w->scope, .on = on, .flags = flags},
	};
	struct keep_reply rep;

	return keep_call(w->en->keep, &req, &rep, NULL, 0, e);
}

static bool stop_here(const struct work *w)
{
	return w->done.freed >= w->want->free ||
	       (w->want->cancelled && w->want->cancelled(w->want->ctx));
}

static int batches(struct work *w, struct err *e)
{
	while (!stop_here(w)) {
		int r = loop_call(w->en->loop, evict_park, w);

		if (r <= 0)
			return r < 0 ? err_errno(e, r, "evicting") : 0;
		r = evict_ask_leases(w, e);
		if (r < 0) {
			loop_call(w->en->loop, evict_batch_undo, w);
			return r;
		}
		evict_punch(w);
		loop_call(w->en->loop, evict_batch_done, w);
	}
	return 0;
}

struct sync {
	struct work *w;
	sem_t done;
};

static void synced(void *ctx, int result)
{
	struct sync *s = ctx;

	sem_post(&s->done); /* what could not be synced is LOST now, and goes as well */
}

static int start_sync(void *ctx)
{
	struct sync *s = ctx;

	flight_sync(s->w->en->flight, s->w->l, synced, s);
	return 0;
}

/* Spans that were written just now become CLEAN, so that they can go as well. */
static void sync_first(struct work *w)
{
	struct sync s = {.w = w};

	sem_init(&s.done, 0, 0);
	if (loop_call(w->en->loop, start_sync, &s) == 0)
		while (sem_wait(&s.done) < 0 && errno == EINTR)
			;
	sem_destroy(&s.done);
}

static int evict_mounted(struct work *w, struct err *e)
{
	uint32_t flags = KEEP_MARK_EXEC | (w->want->deny ? KEEP_MARK_OPEN : 0);
	int r;

	sync_first(w);
	r = ask_mark(w, KEEP_MARK, 1, 0, e);
	if (r == 0)
		r = ask_mark(w, KEEP_EXEC_MARK, 0, flags, e);
	if (r == 0) {
		loop_call(w->en->loop, marks_on, w);
		r = batches(w, e);
		if (w->want->deny)
			ask_mark(w, KEEP_EXEC_MARK, 0, KEEP_MARK_EXEC, NULL);
	}
	loop_call(w->en->loop, end, w);
	layer_umount(w->en, w->l);
	return r;
}

/* --- a layer that is not mounted: the whole tar at once --- */

static int drop_content(struct engine *en, const struct keep_file *tar, uint64_t size,
			struct err *e)
{
	_cleanup_fd_ int fd = -1;
	int r = file_create(en, tar, &fd, e);

	if (r == 0 && ftruncate(fd, (off_t)size) < 0)
		r = err_errno(e, -errno, "an empty tar");
	if (r == 0)
		r = file_publish(en, tar, e);
	return r;
}

uint64_t evict_tar_age_ns(int fd)
{
	struct timespec now;
	struct stat st;
	int64_t used, age;

	clock_gettime(CLOCK_REALTIME, &now);
	if (fstat(fd, &st) < 0)
		return 0;
	used = st.st_ctim.tv_sec > st.st_atim.tv_sec ? st.st_ctim.tv_sec : st.st_atim.tv_sec;
	age = now.tv_sec - used;
	return age > 0 ? (uint64_t)age * 1000000000 : 0;
}

static int is_mounted(void *ctx)
{
	const struct work *w = ctx;

	return engine_layer(w->en, &w->diff_id, &w->scope) != NULL;
}

/* #syscalls engine: lseek */
static int evict_unmounted(struct work *w, struct err *e)
{
	const struct keep_file present = file_of_layer(KEEP_PRESENT, &w->diff_id, &w->scope);
	const struct keep_file tar = file_of_layer(KEEP_TAR, &w->diff_id, &w->scope);
	_cleanup_claim_ struct claim making = CLAIM_INIT;
	_cleanup_claim_ struct claim mounting = CLAIM_INIT;
	_cleanup_fd_ int fd = -1;
	int64_t resident;
	off_t size;
	int r;

	/* One that is being made has yet to say what of it is there. */
	if (claim_try(&making, CLAIM_INGEST, &w->diff_id) < 0)
		return 0;
	r = claim_take(&mounting, CLAIM_MOUNT, &w->diff_id, NULL, NULL);
	if (r == 0 && loop_call(w->en->loop, is_mounted, w))
		return -EAGAIN; /* meanwhile, by somebody who uses it, or it could not be unmounted
				 */
	if (r == 0)
		r = file_open(w->en, &tar, &fd, e);
	if (r == -ENOENT)
		return 0; /* it was removed since it was listed, and holds nothing any more */
	if (r < 0)
		return r;
	resident = fd_resident(fd);
	size = lseek(fd, 0, SEEK_END);
	if (resident <= 0 || size < 0 || evict_tar_age_ns(fd) < w->want->cold_ns)
		return 0;
	/* Of such a one only spans go, while it is mounted. It was, when the caller looked. */
	if (pins_bytes(&w->diff_id, 0, (uint64_t)size))
		return 0;
	/* First nothing is claimed to be there any more, then it goes. */
	r = file_drop(w->en, &present, e);
	if (r == 0)
		r = drop_content(w->en, &tar, (uint64_t)size, e);
	if (r == 0)
		w->done.freed += (uint64_t)resident;
	return r;
}

static int account(void *ctx)
{
	const struct work *w = ctx;

	w->en->count.evicted += w->done.freed;
	space_freed(w->en->space, w->done.freed, w->counts);
	return 0;
}

/* What makes room in the background ends soon, and nobody who asked is to hear of it. */
static int begin_in_turn(struct work *w)
{
	const struct evict_want *want = w->want;
	int r;

	while ((r = loop_call(w->en->loop, begin, w)) == -EBUSY && want->deny &&
	       !(want->cancelled && want->cancelled(want->ctx)))
		usleep(TURN_US);
	return r;
}

int evict_layer(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		const struct evict_want *want, struct evicted *ret, struct err *e)
{
	struct work w = {.en = en, .want = want, .diff_id = *diff_id, .scope = *scope};
	int r = 0;

	*ret = (struct evicted){0};
	for (int tries = 0; tries < BEGIN_TRIES; tries++) {
		r = begin_in_turn(&w);
		if (r < 0 && r != -ENOENT)
			return err_set(e, r, "the layer is being evicted already");
		r = r == -ENOENT ? evict_unmounted(&w, e) : evict_mounted(&w, e);
		if (r != -EAGAIN)
			break;
		r = 0; /* it is on its way out: nothing of it goes just now */
		usleep(TURN_US);
	}
	free(w.nids.v);
	free(w.lease);
	loop_call(en->loop, account, &w);
	*ret = w.done;
	return r;
}
