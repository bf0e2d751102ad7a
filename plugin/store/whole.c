/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/whole.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/pull.h"

/* How often it looks; what failed is wanted again that often. */
#define LOOK_MS 200

/* What a look at the layer found; made on the loop. */
struct look {
	struct engine *en; /* borrowed */
	struct layer *l;   /* borrowed; a reference is held */
	uint64_t there;    /* bytes CLEAN or DIRTY */
	uint64_t changes;
	bool checking; /* its digest is being computed, which changes nothing meanwhile */
	bool whole;    /* nothing is left to do */
	bool bad;      /* the whole has not the digest it should have */
	char why[256]; /* what a source said last */
};

static void note_error(struct look *k)
{
	for (uint32_t i = 0; i < k->l->nsources; i++) {
		const struct layer_source *s = &k->l->sources[i];

		if (s->last_error[0] && (s->fails || s->bad))
			snprintf(k->why, sizeof(k->why), "%.*s", (int)sizeof(s->last_error) - 1,
				 s->last_error);
	}
	if (k->l->nsources == 0)
		snprintf(k->why, sizeof(k->why), "no source of it is known");
}

static int look(void *ctx)
{
	struct look *k = ctx;
	struct layer *l = k->l;
	uint32_t n = l->index.nspans;

	k->there = (uint64_t)(l->nclean + l->ndirty) * l->index.span_size;
	if (k->there > l->index.tar_size)
		k->there = l->index.tar_size;
	k->changes = l->changes;
	k->checking = l->checking;
	k->whole = l->complete;
	k->bad = l->quarantined;
	k->why[0] = '\0';
	note_error(k);
	if (k->whole || k->bad)
		return 0;
	if (k->en->stopping)
		return -ESHUTDOWN;
	if (l->nclean == n)
		flight_check_complete(k->en->flight, l);
	else if (l->nclean + l->ndirty == n)
		flight_sync(k->en->flight, l, NULL, NULL);
	else
		flight_want(k->en->flight, l, 0, n - 1, PRIO_FILL);
	return 0;
}

/* Nothing has changed for so long that a reader would have been told EIO twice. */
static uint64_t patience_ms(const struct engine *en)
{
	return 2 * (uint64_t)en->slots->settings.deadline_ms;
}

int layer_make_whole(struct engine *en, struct layer *l, const struct watch *w, struct err *e)
{
	struct look k = {.en = en, .l = l};
	char what[DIGEST_TEXT + 8] = "layer ";
	uint64_t since = clock_ms(), changes = 0;

	digest_text(&l->diff_id, what + strlen(what));
	for (;;) {
		if (loop_call(en->loop, look, &k) < 0)
			return err_set(e, -ESHUTDOWN, "%s: tarnd is stopping", what);
		if (k.whole)
			return 0;
		if (k.bad)
			return err_set(e, -EBADMSG, "%s: its content has not the digest it should",
				       what);
		if (watch_cancelled(w) || watch_tell(w, what, k.there, l->index.tar_size) < 0)
			return err_set(e, -EPIPE, "%s: the client went away", what);
		if (k.changes != changes || k.checking)
			since = clock_ms();
		changes = k.changes;
		if (clock_ms() - since > patience_ms(en))
			return err_set(e, -ETIMEDOUT, "%s: cannot be brought here: %s", what,
				       k.why[0] ? k.why : "nothing happens");
		usleep(LOOK_MS * 1000);
	}
}
