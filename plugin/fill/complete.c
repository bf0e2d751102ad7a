/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/fill/flight_impl.h"
#include "plugin/log.h"
#include "plugin/store/load.h"
#include "plugin/store/pages.h"
#include "plugin/store/present.h"

/* Every span is right: is the tar the layer? */

struct whole_work {
	struct work w;
	struct flight *f; /* borrowed */
	struct layer *l;  /* borrowed, counted */
	int fd;           /* borrowed */
	uint64_t size;
	struct digest want;
	uint64_t changes; /* layer->changes when it began */
	bool disk_failed; /* the page cache may have what the disk has not */
	int result;
};

/* EROFS keeps its own pages; the tar's would only be kept twice (they are clean by now). */
static int sum_tar(struct whole_work *c, void *scratch, struct hasher *h, struct digest *ret)
{
	for (uint64_t off = 0; off < c->size; off += WORKER_SCRATCH) {
		uint64_t left = c->size - off;
		size_t n = left < WORKER_SCRATCH ? (size_t)left : WORKER_SCRATCH;
		int r;

		if (c->disk_failed)
			(void)pages_drop(c->fd, off, n);
		r = fd_pread_full(c->fd, scratch, n, off);
		if (r == 0)
			r = hasher_update(h, scratch, n);
		if (r < 0)
			return r;
		/* #syscalls engine: fadvise64 */
		(void)posix_fadvise(c->fd, (off_t)off, (off_t)n, POSIX_FADV_DONTNEED);
	}
	return hasher_final(h, ret);
}

static void whole_run(struct work *w, void *scratch)
{
	struct whole_work *c = (struct whole_work *)w;
	_cleanup_(hasher_freep) struct hasher *h = hasher_new();
	struct digest is;

	c->result = h ? sum_tar(c, scratch, h, &is) : -ENOMEM;
	if (c->result == 0 && !digest_equal(&is, &c->want))
		c->result = -EBADMSG;
}

static void whole_done(struct work *w)
{
	_cleanup_free_ struct whole_work *c = (struct whole_work *)w;
	struct flight *f = c->f;
	struct layer *l = c->l;
	char name[LAYER_NAME];

	l->checking = false;
	if (f->closing) {
		;
	} else if (c->changes != l->changes) {
		/* Spans went or came while it was read: the sum says nothing. */
		flight_check_complete(f, l);
	} else if (c->result == 0) {
		l->complete = true;
		layer_completed(f->en, l);
	} else if (c->result == -EBADMSG) {
		l->quarantined = true;
		present_synced(f->en, l);
		log_error("%s: every span is right, yet the whole is not the layer that was "
			  "promised; it is not used any more",
			  layer_name(l, name));
	} else {
		log_warn("%s: cannot read it whole: %s", layer_name(l, name), err_words(c->result));
	}
	flight_let_go(f, l);
}

void flight_check_complete(struct flight *f, struct layer *l)
{
	struct whole_work *c;

	if (l->nclean != l->index.nspans || l->complete || l->checking || l->quarantined ||
	    l->evicting || flight_draining(f, l))
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->w = (struct work){.run = whole_run, .done = whole_done};
	c->f = f;
	c->l = l;
	c->fd = l->fd_fill;
	c->size = l->index.tar_size;
	c->want = l->index.diff_id;
	c->changes = l->changes;
	c->disk_failed = atomic_load(&f->en->slots->disk_failed);
	l->checking = true;
	l->inflight++;
	workers_submit(f->workers, &c->w, WORK_WHOLE);
}
