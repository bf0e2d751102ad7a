/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/whole.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/patience.h"
#include "plugin/store/pull.h"

/* One layer being made whole, and what the last look at it found; the loop's while it looks. */
struct look {
	struct engine *en; /* borrowed */
	struct layer *l;   /* borrowed; a reference is held */
	uint64_t there;    /* bytes CLEAN or DIRTY */
	bool checking;     /* its digest is being computed, and nothing is gained meanwhile */
	bool whole;        /* nothing is left to do */
	bool bad;          /* the whole has not the digest it should have */
	struct patience patience;
};

static int look(void *ctx)
{
	struct look *k = ctx;
	struct layer *l = k->l;
	uint32_t n = l->index.nspans;

	k->there = (uint64_t)(l->nclean + l->ndirty) * l->index.span_size;
	if (k->there > l->index.tar_size)
		k->there = l->index.tar_size;
	k->checking = l->checking;
	k->whole = l->complete;
	k->bad = l->quarantined;
	if (k->whole || k->bad)
		return 0;
	if (k->en->stopping)
		return -ESHUTDOWN;
	if (l->nclean == n)
		flight_check_complete(k->en->flight, l);
	else if (l->nclean + l->ndirty == n)
		flight_sync(k->en->flight, l, NULL, NULL);
	else if (patience_want(&k->patience, l->nbusy > 0))
		flight_want(k->en->flight, l, 0, n - 1, PRIO_FILL);
	return 0;
}

int layer_make_whole(struct engine *en, struct layer *l, const struct watch *w, struct err *e)
{
	struct look k = {.en = en, .l = l};
	char what[DIGEST_TEXT + 8] = "layer ";
	int r = 0;

	patience_begin(&k.patience, en, l);
	digest_text(&l->diff_id, what + strlen(what));
	while (r == 0) {
		if (loop_call(en->loop, look, &k) < 0)
			return err_set(e, -ESHUTDOWN, "%s: tarnd is stopping", what);
		if (k.whole)
			return 0;
		if (k.bad)
			return err_set(e, -EBADMSG, "%s: its content has not the digest it should",
				       what);
		if (watch_cancelled(w) || watch_tell(w, what, k.there, l->index.tar_size) < 0)
			return err_set(e, -EPIPE, "%s: the client went away", what);
		r = patience_left(&k.patience, k.there, k.checking, what, e);
		if (r == 0)
			usleep(PATIENCE_LOOK_MS * 1000);
	}
	return r;
}
