/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/coldest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/evict.h"
#include "plugin/store/kept.h"
#include "plugin/store/layer.h"
#include "plugin/store/pins.h"

#define DISTURBED_US 200000

/* Something that can go as one. */
struct piece {
	uint64_t age_ns, bytes;
};

/* A layer that has such pieces. */
struct holder {
	struct digest diff_id, scope;
	uint64_t oldest_ns;
	bool mounted;
};

struct survey {
	struct engine *en;
	struct piece *piece; /* owned; oldest first once it is sorted */
	size_t npieces, max_pieces;
	struct holder *holder; /* owned */
	size_t nholders, max_holders;
	bool disturbed; /* see coldest.h */
};

static void survey_free(struct survey *s)
{
	free(s->piece);
	free(s->holder);
}

/* --- what there is --- */

static int add_piece(struct survey *s, struct holder *h, uint64_t age_ns, uint64_t bytes)
{
	if (s->npieces == s->max_pieces) {
		size_t max = s->max_pieces ? 2 * s->max_pieces : 1024;
		void *grown = reallocarray(s->piece, max, sizeof(*s->piece));

		if (!grown)
			return -ENOMEM;
		s->piece = grown;
		s->max_pieces = max;
	}
	s->piece[s->npieces++] = (struct piece){.age_ns = age_ns, .bytes = bytes};
	if (age_ns > h->oldest_ns)
		h->oldest_ns = age_ns;
	return 0;
}

static int add_holder(struct survey *s, const struct holder *h)
{
	if (s->nholders == s->max_holders) {
		size_t max = s->max_holders ? 2 * s->max_holders : 64;
		void *grown = reallocarray(s->holder, max, sizeof(*s->holder));

		if (!grown)
			return -ENOMEM;
		s->holder = grown;
		s->max_holders = max;
	}
	s->holder[s->nholders++] = *h;
	return 0;
}

/* DIRTY counts too: an eviction begins with an fdatasync. */
static bool held(const struct span *s)
{
	return span_kept(s);
}

static int survey_layer(struct survey *s, const struct layer *l, uint64_t now)
{
	struct holder h = {.diff_id = l->diff_id, .scope = l->scope, .mounted = true};
	size_t before = s->npieces;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < l->index.nspans; i++)
		if (held(&l->spans[i]) && !pins_span(l, i))
			r = add_piece(s, &h, now - l->spans[i].touched_ns,
				      index_span_len(&l->index, i));
	return r < 0 || s->npieces == before ? r : add_holder(s, &h);
}

/* On the loop. */
static int survey_mounted(void *ctx)
{
	struct survey *s = ctx;
	uint64_t now = clock_ns();
	int r = 0;

	/* What has gone from its source would not come back. */
	for (const struct layer *l = s->en->layers; r == 0 && l; l = l->next)
		r = l->vanished ? 0 : survey_layer(s, l, now);
	return r;
}

struct ask {
	struct engine *en;
	const struct keep_found *at;
};

static int is_mounted(void *ctx)
{
	const struct ask *a = ctx;

	return engine_layer(a->en, &a->at->key, &a->at->scope) != NULL;
}

/* A tar that is not mounted goes whole, or not at all when something of it is pinned. */
static int survey_closed(struct survey *s, const struct keep_found *at)
{
	const struct keep_file tar = file_of_layer(KEEP_TAR, &at->key, &at->scope);
	struct holder h = {.diff_id = at->key, .scope = at->scope};
	struct ask a = {.en = s->en, .at = at};
	_cleanup_fd_ int fd = -1;
	int64_t resident;
	struct stat st;
	int r;

	if (loop_call(s->en->loop, is_mounted, &a) || file_open(s->en, &tar, &fd, NULL) < 0)
		return 0;
	resident = fd_resident(fd);
	if (resident <= 0 || fstat(fd, &st) < 0 || pins_bytes(&at->key, 0, (uint64_t)st.st_size))
		return 0;
	r = add_piece(s, &h, evict_tar_age_ns(fd), (uint64_t)resident);
	return r < 0 ? r : add_holder(s, &h);
}

static int by_age(const void *a, const void *b)
{
	uint64_t x = ((const struct piece *)a)->age_ns, y = ((const struct piece *)b)->age_ns;

	return (x < y) - (x > y);
}

static int survey(struct survey *s, struct err *e)
{
	_cleanup_free_ struct keep_found *list = NULL;
	size_t n = 0;
	int r = pins_load(s->en, e);

	if (r == 0)
		r = file_list_found(s->en, KEEP_TAR, &list, &n, e);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = survey_closed(s, &list[i]);
	if (r == 0)
		r = loop_call(s->en->loop, survey_mounted, s);
	if (r < 0)
		return err_errno(e, r, "looking for cold content");
	if (s->npieces > 0)
		qsort(s->piece, s->npieces, sizeof(s->piece[0]), by_age);
	return 0;
}

/* --- what goes --- */

/* From everything as old as @age_ns, or older. */
static uint64_t evict_older(struct survey *s, uint64_t age_ns, uint64_t bytes,
			    struct evict_want *want)
{
	uint64_t freed = 0;

	want->cold_ns = age_ns ? age_ns : 1;
	for (size_t i = 0; i < s->nholders && freed < bytes; i++) {
		const struct holder *h = &s->holder[i];
		struct err e = ERR_INIT;
		struct evicted ev;
		int r;

		if (h->oldest_ns < age_ns)
			continue;
		want->free = bytes - freed;
		r = evict_layer(s->en, &h->diff_id, &h->scope, want, &ev, &e);
		if (r == -EBUSY || r == -ESHUTDOWN)
			s->disturbed = true;
		else if (r < 0)
			log_warn("making room: %s", e.text);
		freed += ev.freed;
		if (want->cancelled(want->ctx))
			break;
	}
	return freed;
}

struct coldest coldest_evict(struct engine *en, uint64_t bytes, bool (*cancelled)(void *ctx),
			     void *ctx)
{
	_cleanup_(survey_free) struct survey s = {.en = en};
	struct evict_want want = {.cancelled = cancelled, .ctx = ctx};
	uint64_t freed = 0, goal = bytes, seen = 0;
	struct err e = ERR_INIT;
	size_t at = 0;

	if (survey(&s, &e) < 0) {
		log_error("%s", e.text);
		return (struct coldest){.freed = 0};
	}
	/* What is in use stays, so the next oldest are tried, twice as much each time. */
	while (freed < bytes && at < s.npieces && !cancelled(ctx)) {
		while (at < s.npieces && seen < goal)
			seen += s.piece[at++].bytes;
		freed += evict_older(&s, s.piece[at - 1].age_ns, bytes - freed, &want);
		goal = seen + 2 * (seen > bytes ? seen : bytes);
	}
	if (freed > 0)
		log_debug("made room: %" PRIu64 " MiB of what was not used for longest",
			  freed >> 20);
	else if (s.disturbed)
		usleep(DISTURBED_US);
	return (struct coldest){.freed = freed, .disturbed = s.disturbed};
}
