/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <semaphore.h>
#include <stdbool.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fault/fault.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/claim.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/load_impl.h"
#include "plugin/store/present.h"

/* What a task asks of the loop about one layer. */
struct ask {
	struct engine *en;
	struct layer *l;
};

/* --- waiting for what works on it --- */

struct drain {
	struct ask ask;
	sem_t done;
	int result;
};

static void drained(void *ctx, int result)
{
	struct drain *d = ctx;

	d->result = result;
	sem_post(&d->done);
}

static int start_drain(void *ctx)
{
	struct drain *d = ctx;

	flight_drain(d->ask.en->flight, d->ask.l, drained, d);
	return 0;
}

static int drain(struct engine *en, struct layer *l)
{
	struct drain d = {.ask = {.en = en, .l = l}};

	sem_init(&d.done, 0, 0);
	loop_call(en->loop, start_drain, &d);
	while (sem_wait(&d.done) < 0 && errno == EINTR)
		;
	sem_destroy(&d.done);
	return d.result;
}

/* --- the end of a layer --- */

static int take_out(void *ctx)
{
	struct ask *a = ctx;

	fault_layer_gone(a->en, a->l);
	engine_layer_remove(a->en, a->l);
	slots_unmounted(a->en->slots, a->l->fs_dev);
	layer_free(a->l);
	return 0;
}

void layer_forget(struct engine *en, struct layer *l)
{
	struct ask a = {.en = en, .l = l};
	struct err e = ERR_INIT;
	char text[DIGEST_TEXT];
	int r;

	/* After a sync that failed the file stays as it is: not clean. */
	r = drain(en, l);
	if (r == 0)
		r = present_close(en, l, &e);
	if (r < 0)
		log_warn("layer %s: %s; its content will be checked again",
			 digest_text(&l->diff_id, text), e.code ? e.text : err_words(r));
	loop_call(en->loop, take_out, &a);
}

static int set_unmounting(void *ctx)
{
	struct ask *a = ctx;

	if (a->l->refs > 0)
		return 0;
	if (a->l->evicting)
		return -EBUSY;
	a->l->unmounting = true;
	return 1;
}

static int stays_mounted(void *ctx)
{
	struct ask *a = ctx;

	a->l->unmounting = false;
	return 0;
}

/*
 * Nobody can read the layer any more once the keeper has unmounted it; until then it stays in the
 * list and faults on it are served.
 */
int layer_finish_umount(struct engine *en, struct layer *l)
{
	struct ask a = {.en = en, .l = l};
	struct keep_reply rep;
	int none[2], r;

	r = loop_call(en->loop, set_unmounting, &a);
	if (r <= 0)
		return r;
	r = layer_ask(en, KEEP_LAYER_UMOUNT, &l->diff_id, &l->scope, &rep, none, NULL);
	if (r == 0)
		layer_forget(en, l);
	else if (r == -ETXTBSY)
		loop_call(en->loop, stays_mounted, &a);
	return r;
}

struct search {
	struct engine *en;
	const struct digest *diff_id, *scope;
	struct layer *l;
};

static int find(void *ctx)
{
	struct search *s = ctx;

	s->l = engine_layer(s->en, s->diff_id, s->scope);
	return s->l != NULL;
}

int layer_umount_idle(struct engine *en, const struct digest *diff_id, const struct digest *scope)
{
	struct search s = {.en = en, .diff_id = diff_id, .scope = scope};
	_cleanup_claim_ struct claim c = CLAIM_INIT;

	claim_take(&c, CLAIM_MOUNT, diff_id, NULL, NULL);
	if (!loop_call(en->loop, find, &s))
		return 0;
	return layer_finish_umount(en, s.l);
}

/* --- references --- */

static int unref(void *ctx)
{
	struct ask *a = ctx;

	return (int)--a->l->refs;
}

void layer_umount(struct engine *en, struct layer *l)
{
	struct ask a = {.en = en, .l = l};
	struct digest diff_id = l->diff_id, scope = l->scope;

	if (loop_call(en->loop, unref, &a) > 0)
		return;
	/* From here on @l may be gone: another task can have unmounted it. */
	if (layer_umount_idle(en, &diff_id, &scope) < 0)
		layer_reap(en, &diff_id, &scope);
}

void layer_release(struct engine *en, struct layer *l)
{
	if (--l->refs == 0)
		layer_reap(en, &l->diff_id, &l->scope);
}
