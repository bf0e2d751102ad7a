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
#include "plugin/store/pull.h"
#include "plugin/store/whole.h"

#define LOOK_MS 200

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
	uint64_t changes;
	char why[256]; /* what a source said last */
};

static void look_at_range(struct parts *p, const struct pin_range *range)
{
	const struct index *ix = &p->l->index;
	uint32_t first, last;

	layer_spans_of(p->l, range->off, range->end - range->off, &first, &last);
	for (uint32_t i = first; i <= last && i < ix->nspans; i++) {
		p->total += index_span_len(ix, i);
		if (span_present(&p->l->spans[i]))
			p->there += index_span_len(ix, i);
	}
	flight_want(p->en->flight, p->l, first, last, PRIO_FILL);
}

static int look(void *ctx)
{
	struct parts *p = ctx;

	p->there = p->total = 0;
	for (size_t i = 0; i < p->want->n; i++)
		look_at_range(p, &p->want->v[i]);
	p->changes = p->l->changes;
	for (uint32_t i = 0; i < p->l->nsources; i++)
		if (p->l->sources[i].last_error[0])
			memcpy(p->why, p->l->sources[i].last_error, sizeof(p->why));
	return p->en->stopping ? -ESHUTDOWN : 0;
}

/* Nothing has changed for so long that a reader would have been told EIO twice. */
static uint64_t patience_ms(const struct engine *en)
{
	return 2 * (uint64_t)en->slots->settings.deadline_ms;
}

static int bring_parts(struct engine *en, struct layer *l, const struct pin_layer *want,
		       const struct watch *w, struct err *e)
{
	struct parts p = {.en = en, .l = l, .want = want};
	char what[DIGEST_TEXT + 8] = "layer ";
	uint64_t since = clock_ms(), changes = 0;

	digest_text(&l->diff_id, what + strlen(what));
	for (;;) {
		if (loop_call(en->loop, look, &p) < 0)
			return err_set(e, -ESHUTDOWN, "%s: tarnd is stopping", what);
		if (watch_cancelled(w) || watch_tell(w, what, p.there, p.total) < 0)
			return err_set(e, -EPIPE, "%s: the client went away", what);
		if (p.there >= p.total)
			return 0;
		if (p.changes != changes)
			since = clock_ms();
		changes = p.changes;
		if (clock_ms() - since > patience_ms(en))
			return err_set(e, -ETIMEDOUT, "%s: cannot be brought here: %s", what,
				       p.why[0] ? p.why : "nothing happens");
		usleep(LOOK_MS * 1000);
	}
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
