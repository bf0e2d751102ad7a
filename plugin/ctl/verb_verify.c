/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/pages.h"
#include "plugin/store/present.h"

/*
 * Reads what is here again. The bytes come through the fill descriptor, which raises no events,
 * while the loop goes on filling and evicting: a span that turns out bad is looked at again with
 * the loop, and only one that was there all the time, and is bad twice, is bad.
 *
 * A bad span becomes ABSENT, so that the next event on it fetches it again and writes it in place.
 * Of a layer that is in use it becomes UNPROVEN, and is fetched a little later: somebody may be
 * between our answer and the kernel's copy (law 8).
 */
struct verify {
	struct ctl_task *t;
	struct layer *l;      /* a reference */
	struct hasher *span;  /* owned; of one span */
	struct hasher *whole; /* owned; of the tar, while no span has been missing */
	uint8_t *data;        /* owned; one span */
	char what[DIGEST_TEXT + 8];
	bool gapless;          /* every span up to here was read */
	uint32_t at;           /* the span in hand */
	uint64_t checked, bad; /* bytes */
	uint64_t lost;         /* bytes that an unclean stop had left in doubt, and that are gone */
	uint32_t nbad;         /* spans */
	bool whole_bad;
};

/* --- on the loop --- */

/* The state of the span in hand, if it is one that says that bytes are there; else 0. */
static int is_there(void *ctx)
{
	const struct verify *v = ctx;
	const struct span *s = &v->l->spans[v->at];

	return span_kept(s) ? s->state : 0;
}

static int set_doubtful(void *ctx)
{
	struct verify *v = ctx;
	struct engine *en = v->t->en;
	struct layer *l = v->l;
	int was = is_there(v);

	if (was == 0)
		return 0;
	l->complete = false;
	if (engine_layer_mounts(en, l) > 0) {
		span_distrust(l, v->at);
		/* Others read this layer: they should not have to wait. */
		flight_want(en->flight, l, v->at, v->at, PRIO_FILL);
	} else {
		span_set(l, v->at, SPAN_ABSENT);
	}
	fault_recheck(en, l, v->at, v->at);
	return was;
}

static int is_marked(void *ctx)
{
	const struct verify *v = ctx;

	return v->l->marked;
}

static int set_marked(void *ctx)
{
	struct verify *v = ctx;

	v->l->marked = true;
	v->l->complete = false;
	return 0;
}

/* What was quarantined by mistake, say of memory, is let go. */
static int tell_whole(void *ctx)
{
	struct verify *v = ctx;

	if (v->l->quarantined == v->whole_bad)
		return 0;
	v->l->quarantined = v->whole_bad;
	if (v->whole_bad)
		v->l->complete = false;
	present_synced(v->t->en, v->l);
	return 0;
}

/* --- in the task --- */

/* A complete layer has no mark; without one its readers would never ask us again. */
static int mark(struct verify *v, struct err *e)
{
	struct keep_request req = {.op = KEEP_MARK, .layer.on = 1};
	struct keep_reply rep;
	int r;

	if (loop_call(v->t->en->loop, is_marked, v))
		return 0;
	req.layer.diff_id = v->l->diff_id;
	req.layer.scope = v->l->scope;
	r = keep_call(v->t->en->keep, &req, &rep, NULL, 0, e);
	if (r == 0)
		loop_call(v->t->en->loop, set_marked, v);
	return r;
}

/* 1 good, 0 bad. */
static int read_span(struct verify *v, size_t len, bool clean)
{
	uint64_t off = index_span_start(&v->l->index, v->at);
	struct digest is;
	int r;

	/* From the disk, not from memory: what is dirty stays in the cache by itself. */
	if (clean)
		(void)pages_drop(v->l->fd_fill, off, len);
	r = fd_pread_full(v->l->fd_fill, v->data, len, off);
	if (r == -EIO || r == -EBADMSG || r == -ENODATA)
		return 0; /* the disk, or a file system with checksums of its own, knows */
	if (r == 0)
		r = hasher_reset(v->span);
	if (r == 0)
		r = hasher_update(v->span, v->data, len);
	if (r == 0)
		r = hasher_final(v->span, &is);
	return r < 0 ? r : digest_equal(&is, &v->l->index.digests[v->at]);
}

static int drop_span(struct verify *v, size_t len, struct err *e)
{
	int was, r = mark(v, e);

	if (r < 0)
		return r;
	was = loop_call(v->t->en->loop, set_doubtful, v);
	if (was == SPAN_UNPROVEN || was == SPAN_LOST)
		v->lost += len;
	if (was == 0 || was == SPAN_UNPROVEN || was == SPAN_LOST)
		return 0;
	log_warn("%s: span %u is bad; it is fetched again when it is read", v->what, v->at);
	v->bad += len;
	v->nbad++;
	return 0;
}

static int check_span(struct verify *v, struct err *e)
{
	size_t len = index_span_len(&v->l->index, v->at);
	int good = 1;
	int there = 1;

	for (int i = 0; i < 2 && there > 0; i++) {
		there = loop_call(v->t->en->loop, is_there, v);
		if (there > 0)
			good = read_span(v, len, there == SPAN_CLEAN);
		if (good < 0)
			return err_errno(e, good, "%s", v->what);
		if (good)
			break;
	}
	/* What went while it was read was evicted, not bad. */
	if (there > 0 && !good && loop_call(v->t->en->loop, is_there, v) == 0)
		there = 0;
	v->gapless = v->gapless && there > 0 && good;
	if (there <= 0)
		return 0;
	v->checked += len;
	if (!good)
		return drop_span(v, len, e);
	return v->gapless && hasher_update(v->whole, v->data, len) < 0
		       ? err_errno(e, -ENOMEM, "%s", v->what)
		       : 0;
}

/* Every span is what the index says: is the whole what the manifest says? */
static int check_whole(struct verify *v, struct err *e)
{
	struct digest is;

	if (!v->gapless)
		return 0;
	if (hasher_final(v->whole, &is) < 0)
		return err_errno(e, -ENOMEM, "%s", v->what);
	v->whole_bad = !digest_equal(&is, &v->l->diff_id);
	if (v->whole_bad)
		log_error("%s: every span is right, yet the whole has not the diff_id; it is not "
			  "used any more",
			  v->what);
	loop_call(v->t->en->loop, tell_whole, v);
	return 0;
}

static int check_layer(struct verify *v, struct err *e)
{
	const struct index *ix = &v->l->index;
	int r = 0;

	v->gapless = true;
	for (v->at = 0; r == 0 && v->at < ix->nspans; v->at++) {
		if (ctl_send_progress(v->t, v->what, index_span_start(ix, v->at), ix->tar_size) < 0)
			return err_set(e, -EPIPE, "%s: the client went away", v->what);
		r = check_span(v, e);
	}
	if (r == 0)
		ctl_send_progress(v->t, v->what, ix->tar_size, ix->tar_size);
	return r < 0 ? r : check_whole(v, e);
}

static int send_verified(const struct verify *v)
{
	_cleanup_json_text_ struct json_text row;
	char text[DIGEST_TEXT];

	ctl_row_open(&row);
	json_put_str(row.g, "diff_id", digest_text(&v->l->diff_id, text));
	json_put_int(row.g, "checked", (int64_t)v->checked);
	json_put_int(row.g, "bad", (int64_t)v->bad);
	json_put_int(row.g, "bad_spans", v->nbad);
	json_put_int(row.g, "lost", (int64_t)v->lost);
	json_put_str(row.g, "whole", v->whole_bad ? "bad" : v->gapless ? "ok" : NULL);
	return ctl_row_send(v->t, &row);
}

static int verify_layer(struct verify *v, const struct place *p, struct err *e)
{
	int r = layer_mount(v->t->en, &p->diff_id, &p->scope, &v->l, e);

	if (r < 0)
		return r;
	memcpy(v->what, "layer ", sizeof("layer "));
	digest_text(&p->diff_id, v->what + strlen(v->what));
	v->span = hasher_new();
	v->whole = hasher_new();
	v->data = malloc(v->l->index.span_size);
	if (v->span && v->whole && v->data)
		r = check_layer(v, e);
	else
		r = err_errno(e, -ENOMEM, "%s", v->what);
	if (r == 0) {
		r = send_verified(v);
		if (r < 0)
			err_errno(e, r, "%s", v->what);
	}
	v->span = hasher_free(v->span);
	v->whole = hasher_free(v->whole);
	free(v->data);
	layer_umount(v->t->en, v->l);
	return r;
}

int verb_verify(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *what = arg_str(t, "what", e);
	_cleanup_places_ struct places ps = {.v = NULL};
	uint64_t checked = 0, bad = 0;
	int64_t whole_bad = 0;
	int r = what ? places_find(t->en, what, &ps, e) : CTL_USAGE;

	for (size_t i = 0; r == 0 && i < ps.n; i++) {
		struct verify v = {.t = t};

		r = verify_layer(&v, &ps.v[i], e);
		checked += v.checked;
		bad += v.bad;
		whole_bad += v.whole_bad;
	}
	if (r < 0)
		return r;
	json_put_int(done, "checked", (int64_t)checked);
	json_put_int(done, "bad", (int64_t)bad);
	json_put_int(done, "bad_layers", whole_bad);
	json_put_int(done, "layers", (int64_t)ps.n);
	return 0;
}
