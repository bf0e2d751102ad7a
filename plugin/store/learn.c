/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/build.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/sources.h"

/* A mounted layer and a source that it is to have. */
struct learn {
	struct engine *en;
	const struct digest *diff_id, *scope;
	const struct source *from;
	struct layer *l;            /* a reference is held */
	struct layer_source source; /* what it points to is owned */
};

static bool is_it(const struct layer_source *s, const struct source *from)
{
	if ((s->at.local != 0) != from->local || !digest_equal(&s->at.blob, &from->blob))
		return false;
	if (from->local)
		return strcmp(s->dir, from->dir) == 0;
	return strcmp(s->at.at.host, from->at.host) == 0 &&
	       strcmp(s->at.at.repo, from->at.repo) == 0;
}

/* 1: the layer is mounted and lacks the source; it got a reference. */
static int look(void *ctx)
{
	struct learn *k = ctx;
	struct layer *l = engine_layer(k->en, k->diff_id, k->scope);

	if (!l || l->unmounting)
		return 0;
	for (uint32_t i = 0; i < l->nsources; i++) {
		struct layer_source *s = &l->sources[i];

		if (!is_it(s, k->from))
			continue;
		s->at.at = k->from->at;
		s->bad = false;
		s->fails = 0;
		s->not_before_ms = 0;
		return 0;
	}
	l->refs++;
	k->l = l;
	return 1;
}

/* Flight knows sources by number, and nobody else keeps a pointer to one: they may move. */
static int append(void *ctx)
{
	struct learn *k = ctx;
	struct layer_source *v;

	if (k->l->nsources >= LIMIT_SOURCES)
		return -E2BIG;
	v = reallocarray(k->l->sources, k->l->nsources + 1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	k->l->sources = v;
	v[k->l->nsources++] = k->source;
	return 0;
}

int layer_learn_source(struct engine *en, const struct digest *diff_id, const struct digest *scope,
		       const struct source *from, struct err *e)
{
	_cleanup_free_ struct learn *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return err_errno(e, -ENOMEM, "a source");
	k->en = en;
	k->diff_id = diff_id;
	k->scope = scope;
	k->from = from;
	if (!loop_call(en->loop, look, k))
		return 0;
	r = layer_source_load(en, k->l, from, &k->source, e);
	if (r == 0)
		layer_source_open(en, &k->source);
	/* One that is full has sources enough. */
	if (r == 0 && loop_call(en->loop, append, k) < 0)
		layer_source_free(&k->source);
	layer_umount(en, k->l);
	return r;
}
