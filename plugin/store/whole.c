/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/whole.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/pull.h"

#define LOOK_MS 200
/* What failed is wanted again after so long, and longer the longer nothing comes. */
#define AGAIN_MIN_MS 400
#define AGAIN_MAX_MS 10000
/* With the store full and nothing gained for so long, nothing will be. */
#define FULL_MS 4000

/* One layer being made whole, and what the last look at it found; the loop's while it looks. */
struct look {
	struct engine *en; /* borrowed */
	struct layer *l;   /* borrowed; a reference is held */
	uint64_t there;    /* bytes CLEAN or DIRTY */
	uint64_t again_ms; /* clock_ms() when what is absent is to be wanted again */
	uint64_t delay_ms;
	bool checking; /* its digest is being computed, and nothing is gained meanwhile */
	bool whole;    /* nothing is left to do */
	bool bad;      /* the whole has not the digest it should have */
	char why[256]; /* what a source said last */
};

static void note_error(struct look *k)
{
	k->why[0] = '\0';
	for (uint32_t i = 0; i < k->l->nsources; i++) {
		const struct layer_source *s = &k->l->sources[i];

		if (s->last_error[0] && (s->fails || s->bad))
			snprintf(k->why, sizeof(k->why), "%.*s", (int)sizeof(s->last_error) - 1,
				 s->last_error);
	}
	if (k->l->nsources == 0)
		snprintf(k->why, sizeof(k->why), "no source of it is known");
}

/* Everything once; what failed again only when the rest has come or failed too. */
static void want_rest(struct look *k)
{
	uint64_t now = clock_ms();

	if (k->l->nbusy > 0 || now < k->again_ms)
		return;
	k->again_ms = now + k->delay_ms;
	k->delay_ms = k->delay_ms * 2 > AGAIN_MAX_MS ? AGAIN_MAX_MS : k->delay_ms * 2;
	flight_want(k->en->flight, k->l, 0, k->l->index.nspans - 1, PRIO_FILL);
}

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
		want_rest(k);
	return 0;
}

/* No room for one more span. Asking for it raises no event. */
static bool store_full(const struct layer *l)
{
	struct statvfs st;

	return fstatvfs(l->fd_fill, &st) == 0 &&
	       (uint64_t)st.f_bavail * st.f_frsize < l->index.span_size;
}

/* Nothing was gained for @ms: is there any hope left? */
static int give_up(const struct look *k, uint64_t ms, const char *what, struct err *e)
{
	if (ms > FULL_MS && store_full(k->l))
		return err_errno(e, -ENOSPC, "%s", what);
	/* As long as two readers, one after the other, would have waited. */
	if (ms > 2 * (uint64_t)k->en->slots->settings.deadline_ms)
		return err_set(e, -ETIMEDOUT, "%s: cannot be brought here: %s", what,
			       k->why[0] ? k->why : "nothing happens");
	return 0;
}

int layer_make_whole(struct engine *en, struct layer *l, const struct watch *w, struct err *e)
{
	struct look k = {.en = en, .l = l, .delay_ms = AGAIN_MIN_MS};
	char what[DIGEST_TEXT + 8] = "layer ";
	uint64_t since = clock_ms(), had = 0;
	int r = 0;

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
		if (k.there > had || k.checking) {
			since = clock_ms();
			k.delay_ms = AGAIN_MIN_MS;
		}
		had = k.there;
		r = give_up(&k, clock_ms() - since, what, e);
		if (r == 0)
			usleep(LOOK_MS * 1000);
	}
	return r;
}
