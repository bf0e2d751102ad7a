/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/filling.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/patience.h"
#include "plugin/store/pull.h"
#include "plugin/store/whole.h"

void pin_layers_free(struct pin_layer *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i].v);
	free(v);
}

/* --- parts of a layer --- */

struct parts {
	struct engine *en;
	struct layer *l;
	const struct pin_layer *want;
	uint64_t there, total; /* bytes of the ranges */
	bool busy;             /* something of them is on its way */
	struct patience patience;
};

static void spans_of(const struct parts *p, size_t i, uint32_t *ret_first, uint32_t *ret_last)
{
	const struct pin_range *range = &p->want->v[i];

	layer_spans_of(p->l, range->off, range->end - range->off, ret_first, ret_last);
}

static void look_at_range(struct parts *p, size_t range)
{
	const struct index *ix = &p->l->index;
	uint32_t first, last;

	spans_of(p, range, &first, &last);
	for (uint32_t i = first; i <= last && i < ix->nspans; i++) {
		const struct span *s = &p->l->spans[i];

		p->total += index_span_len(ix, i);
		if (span_present(s) && s->state != SPAN_LOST)
			p->there += index_span_len(ix, i);
		p->busy |= s->state == SPAN_QUEUED || s->state == SPAN_CHECKING;
	}
}

static void want_range(struct parts *p, size_t range)
{
	uint32_t first, last;

	spans_of(p, range, &first, &last);
	flight_want(p->en->flight, p->l, first, last, PRIO_FILL);
}

static int look(void *ctx)
{
	struct parts *p = ctx;

	p->there = p->total = 0;
	p->busy = false;
	for (size_t i = 0; i < p->want->n; i++)
		look_at_range(p, i);
	if (p->en->stopping)
		return -ESHUTDOWN;
	if (p->there < p->total && patience_want(&p->patience, p->busy))
		for (size_t i = 0; i < p->want->n; i++)
			want_range(p, i);
	return 0;
}

static int bring_parts(struct engine *en, struct layer *l, const struct pin_layer *want,
		       const struct watch *w, struct err *e)
{
	struct parts p = {.en = en, .l = l, .want = want};
	char what[DIGEST_TEXT + 8] = "layer ";
	int r = 0;

	patience_begin(&p.patience, en, l);
	digest_text(&l->diff_id, what + strlen(what));
	while (r == 0) {
		if (loop_call(en->loop, look, &p) < 0)
			return err_set(e, -ESHUTDOWN, "%s: tarnd is stopping", what);
		if (watch_cancelled(w) || watch_tell(w, what, p.there, p.total) < 0)
			return err_set(e, -EPIPE, "%s: the client went away", what);
		if (p.there >= p.total)
			return 0;
		r = patience_left(&p.patience, p.there, false, what, e);
		if (r == 0)
			usleep(PATIENCE_LOOK_MS * 1000);
	}
	return r;
}

int filling_layer(struct engine *en, const struct pin_layer *want, const struct watch *w,
		  struct err *e)
{
	struct layer *l;
	int r = layer_mount(en, &want->diff_id, &want->scope, &l, e);

	if (r < 0)
		return r;
	if (want->whole)
		r = layer_make_whole(en, l, w, e);
	else
		r = bring_parts(en, l, want, w, e);
	layer_umount(en, l);
	return r;
}

/* --- in the background --- */

struct filling {
	struct engine *en;
	struct pin_layer *v; /* owned */
	size_t n;
};

static int is_stopping(void *ctx)
{
	const struct engine *en = ctx;

	return en->stopping;
}

static bool stopping(void *ctx)
{
	struct engine *en = ctx;

	return loop_call(en->loop, is_stopping, en) != 0;
}

static void bring_all(struct engine *en, const struct pin_layer *v, size_t n)
{
	const struct watch w = {.cancelled = stopping, .ctx = en};

	for (size_t i = 0; i < n; i++) {
		struct err e = ERR_INIT;
		int r = filling_layer(en, &v[i], &w, &e);

		if (r == -EPIPE || r == -ESHUTDOWN)
			return;
		if (r < 0)
			log_warn("fill: %s", e.text);
	}
}

static void fill_task(void *ctx)
{
	struct filling *f = ctx;

	bring_all(f->en, f->v, f->n);
	pin_layers_free(f->v, f->n);
	free(f);
}

int filling_start(struct engine *en, struct pin_layer *v, size_t n)
{
	struct filling *f = malloc(sizeof(*f));
	int r = -ENOMEM;

	if (f) {
		*f = (struct filling){.en = en, .v = v, .n = n};
		r = engine_task(fill_task, f);
	}
	if (r < 0) {
		pin_layers_free(v, n);
		free(f);
	}
	return r;
}

static void pins_task(void *ctx)
{
	struct engine *en = ctx;
	_cleanup_free_ struct digest *images = NULL;
	struct err e = ERR_INIT;
	size_t n = 0;

	if (pins_images(en, &images, &n, &e) < 0) {
		log_error("pins: %s; nothing is evicted until it can be read", e.text);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		_cleanup_pin_ struct pin p = {.name = NULL};

		if (pins_get(en, &images[i], &p, NULL) > 0)
			bring_all(en, p.layers, p.nlayers);
	}
}

int filling_pins(struct engine *en)
{
	return engine_task(pins_task, en);
}
