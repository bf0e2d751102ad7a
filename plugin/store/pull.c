/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pull.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/ref.h"
#include "plugin/engine.h"
#include "plugin/store/claim.h"
#include "plugin/store/images.h"
#include "plugin/store/ingest.h"
#include "plugin/store/kept.h"
#include "plugin/store/load.h"
#include "plugin/store/parents.h"
#include "plugin/store/present.h"
#include "plugin/store/resolve.h"
#include "plugin/store/sources.h"
#include "plugin/store/space.h"
#include "plugin/store/whole.h"

/*
 * While one layer waits for its network another is hashed. More of them would only take the
 * processors, and the memory for their tables of contents, from those who run.
 */
#define LAYERS_AT_ONCE 3

/* One pull. */
struct pull {
	struct engine *en;             /* borrowed */
	const struct pull_request *rq; /* borrowed */
	const struct watch *watch;     /* borrowed */
	struct resolved *rs;           /* owned */
	struct record *rec;            /* owned */
	pthread_mutex_t lock;          /* of what follows */
	uint32_t next;                 /* the layer that nobody has taken yet */
	int result;                    /* < 0: a layer failed, and the others are given up */
	struct err why;
};

static void pull_done(struct pull *p)
{
	resolved_free(p->rs);
	record_free(p->rec);
	pthread_mutex_destroy(&p->lock);
}

static bool keeps_content(const struct pull *p)
{
	if (p->rq->keep == PULL_AUTO)
		return p->rs->ref.kind == REF_REGISTRY;
	return p->rq->keep == PULL_ALL;
}

/* --- one layer --- */

static void set_source(const struct pull *p, const struct descriptor *blob, struct source *s)
{
	memset(s, 0, sizeof(*s));
	s->local = p->rs->ref.kind == REF_LAYOUT;
	if (s->local)
		memcpy(s->dir, p->rs->ref.dir, sizeof(s->dir));
	else
		s->at = p->rs->at;
	s->blob = blob->digest;
	s->blob_size = blob->size;
}

/* What the passes over the layers are given: they end with the first of them that fails. */
static bool cancelled(void *ctx)
{
	struct pull *p = ctx;
	bool failed;

	pthread_mutex_lock(&p->lock);
	failed = p->result < 0;
	pthread_mutex_unlock(&p->lock);
	return failed || watch_cancelled(p->watch);
}

static int progress(void *ctx, const char *text, uint64_t done, uint64_t total)
{
	struct pull *p = ctx;

	return cancelled(p) ? -EPIPE : watch_tell(p->watch, text, done, total);
}

static void fill_ingest(const struct pull *p, uint32_t i, const char *what, const struct watch *w,
			struct source *from, struct ingest *in)
{
	*in = (struct ingest){
		.en = p->en,
		.diff_id = p->rs->diff_ids.id[i],
		.blob = p->rs->manifest.layers[i],
		.from = from,
		.keep = keeps_content(p),
		.must = p->rq->keep == PULL_ALL,
		.what = what,
		.watch = w,
	};
	set_source(p, &in->blob, from);
}

/* Once more when the disk was full and something idle could go. */
static int ingest(struct ingest *in, struct err *e)
{
	struct err why = ERR_INIT;
	int r = layer_ingest(in, &why);

	if ((r == -ENOSPC || r == -EDQUOT) && space_make(in->en, in->blob.size, true))
		return layer_ingest(in, e);
	return r < 0 ? err_take(e, r, why.text, &why.links) : r;
}

/* The layer's claim is held: nobody else makes it or removes it. */
static int get_layer(struct pull *p, struct ingest *in, struct err *e)
{
	int r;

	r = layer_exists(p->en, &in->diff_id, &in->scope, &in->blob.digest, &in->tar_size, e);
	if (r < 0)
		return r;
	if (r == 2)
		r = sources_remember(p->en, &in->diff_id, &in->scope, in->from, e);
	else
		r = ingest(in, e);
	return r < 0 ? r : layer_learn_source(p->en, &in->diff_id, &in->scope, in->from, e);
}

static int pull_layer(struct pull *p, uint32_t i, struct source *from, struct err *e)
{
	const struct watch w = {.progress = progress, .cancelled = cancelled, .ctx = p};
	char what[DIGEST_TEXT + 8] = "layer ";
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	struct ingest in;
	int r;

	digest_text(&p->rs->diff_ids.id[i], what + strlen(what));
	fill_ingest(p, i, what, &w, from, &in);
	if (claim_try(&c, CLAIM_INGEST, &in.diff_id) < 0) {
		(void)watch_tell(&w, what, 0, in.blob.size);
		if (claim_take(&c, CLAIM_INGEST, &in.diff_id, cancelled, p) < 0)
			return err_set(e, -EPIPE, "%s: the client went away", what);
	}
	r = get_layer(p, &in, e);
	if (r < 0)
		return r;
	if (watch_tell(&w, what, in.blob.size, in.blob.size) < 0)
		return err_set(e, -EPIPE, "%s: the client went away", what);
	/* Its whole tar was hashed here, so every image may use it (law 13). */
	p->rec->layers[i] = (struct record_layer){
		.diff_id = in.diff_id, .blob = in.blob, .size = in.tar_size, .proved = true};
	return 0;
}

/* False: there is none left, or no use in more. */
static bool take_layer(struct pull *p, uint32_t *ret)
{
	bool more;

	pthread_mutex_lock(&p->lock);
	more = p->result == 0 && p->next < p->rs->manifest.nlayers;
	if (more)
		*ret = p->next++;
	pthread_mutex_unlock(&p->lock);
	return more;
}

/* Only the first failure is told: the others may be its doing. */
static void give_up(struct pull *p, int result, const struct err *why)
{
	pthread_mutex_lock(&p->lock);
	if (p->result == 0) {
		p->result = result;
		p->why = *why;
	}
	pthread_mutex_unlock(&p->lock);
}

/* As many layers as nobody else takes. */
static void *pull_some(void *ctx)
{
	struct pull *p = ctx;
	struct source *from = calloc(1, sizeof(*from));
	struct err e = ERR_INIT;
	uint32_t i;

	if (!from)
		give_up(p, err_errno(&e, -ENOMEM, "%.200s", p->rq->src), &e);
	while (from && take_layer(p, &i)) {
		int r = pull_layer(p, i, from, &e);

		if (r < 0)
			give_up(p, r, &e);
	}
	if (from)
		explicit_bzero(from, sizeof(*from));
	free(from);
	return NULL;
}

/* This thread works, too; helpers that cannot be had are done without. */
static int pull_layers(struct pull *p, struct err *e)
{
	pthread_t helper[LAYERS_AT_ONCE - 1];
	uint32_t n = p->rs->manifest.nlayers, helpers = 0;

	while (helpers < LAYERS_AT_ONCE - 1 && helpers + 1 < n &&
	       pthread_create(&helper[helpers], NULL, pull_some, p) == 0)
		helpers++;
	pull_some(p);
	while (helpers > 0)
		pthread_join(helper[--helpers], NULL);
	if (p->result < 0)
		return err_take(e, p->result, p->why.text, &p->why.links);
	p->rec->nlayers = n;
	return 0;
}

/* --- the rest of the content --- */

static int fill_layer(struct pull *p, const struct record_layer *l, struct err *e)
{
	struct digest scope = record_scope(p->rec, l);
	struct layer *mounted;
	int r;

	if (present_whole(p->en, &l->diff_id, &scope))
		return 0;
	r = layer_mount(p->en, &l->diff_id, &scope, &mounted, e);
	if (r < 0)
		return r;
	r = layer_make_whole(p->en, mounted, p->watch, e);
	layer_umount(p->en, mounted);
	return r;
}

/* Also what was whole when it came: it may have had to make room for the layers after it. */
static int fill_all(struct pull *p, struct err *e)
{
	for (uint32_t i = 0; i < p->rec->nlayers; i++) {
		int r = fill_layer(p, &p->rec->layers[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the image --- */

static int begin_record(struct pull *p, struct err *e)
{
	char name[LIMIT_REF];
	struct record *rec = p->rec;
	int r;

	ref_default_name(&p->rs->ref, name);
	rec->manifest = p->rs->digest;
	rec->manifest_size = p->rs->manifest_bytes.len;
	rec->config = p->rs->manifest.config;
	rec->docker = p->rs->docker;
	r = record_add_name(rec, p->rq->name ? p->rq->name : name);
	if (r == -EINVAL)
		return err_set(e, r, "'%.200s' cannot be the name of an image",
			       p->rq->name ? p->rq->name : name);
	if (r == 0)
		r = record_add_source(rec, p->rq->src);
	return r < 0 ? err_errno(e, r, "%.200s", p->rq->src) : 0;
}

static int save(struct pull *p, struct err *e)
{
	const struct resolved *rs = p->rs;
	int r;

	login_remember(p->en->slots, &rs->at);
	r = image_save(p->en, p->rec, rs->manifest_bytes.data, rs->manifest_bytes.len,
		       rs->config_bytes.data, rs->config_bytes.len, e);
	return r < 0 ? err_wrap(e, r, "image %.200s", p->rec->names.v[0]) : 0;
}

static int run(struct pull *p, struct err *e)
{
	int r;

	p->rec = record_new();
	if (!p->rec)
		return err_errno(e, -ENOMEM, "%.200s", p->rq->src);
	r = resolve_image(p->en, p->rq, &p->rs, e);
	if (r == 0)
		r = begin_record(p, e);
	if (r == 0)
		r = pull_layers(p, e);
	if (r == 0)
		r = parents_make(p->en, p->rec, e);
	if (r == 0)
		r = save(p, e);
	if (r == 0 && p->rq->keep == PULL_ALL)
		r = fill_all(p, e);
	return r;
}

/* What is full, which the errno does not say, and what to do. */
static int say_full(const struct engine *en, int r, struct err *e)
{
	if (r == -ENOSPC)
		return err_wrap(e, r,
				"the store's file system is full: make room on it, or try tarn gc");
	if (r == -EDQUOT && en->slots->settings.cache_max)
		return err_wrap(e, r,
				"no room within cache.max (tarn.conf): raise it, or do not "
				"--keep=all");
	return r;
}

int pull_image(struct engine *en, const struct pull_request *rq, const struct watch *w,
	       struct record **ret, struct err *e)
{
	_cleanup_(pull_done) struct pull p = {.en = en, .rq = rq, .watch = w};
	int r;

	pthread_mutex_init(&p.lock, NULL);
	r = run(&p, e);
	if (r < 0)
		return say_full(en, r, e);
	*ret = take_ptr(p.rec);
	return 0;
}
