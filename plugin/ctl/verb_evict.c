/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/evict.h"
#include "plugin/store/load.h"
#include "plugin/store/pins.h"

static bool cancelled(void *ctx)
{
	return ctl_cancelled(ctx);
}

static int send_layer(struct ctl_task *t, const struct place *p, const struct evicted *ev)
{
	char text[DIGEST_TEXT];
	_cleanup_json_text_ struct json_text row;

	ctl_row_open(&row);
	json_put_str(row.g, "diff_id", digest_text(&p->diff_id, text));
	json_put_int(row.g, "freed", (int64_t)ev->freed);
	json_put_int(row.g, "kept_in_use", (int64_t)ev->kept_in_use);
	json_put_bool(row.g, "kept_by_others", ev->shared);
	return ctl_row_send(t, &row);
}

static int read_want(const struct ctl_task *t, struct evict_want *ret, struct err *e)
{
	int64_t free_bytes = -1, cold_ms = 0;
	bool enough = json_get_int(t->args, "free", &free_bytes);
	uint64_t cold_ns;

	json_get_int(t->args, "cold_for_ms", &cold_ms);
	if (cold_ms < 0)
		return err_set(e, CTL_USAGE, "evict: a negative time");
	if (enough && free_bytes < 0)
		return err_set(e, CTL_USAGE, "evict: a negative size");
	/* Longer than can be told is longer than anything has been cold. */
	if (__builtin_mul_overflow((uint64_t)cold_ms, 1000000, &cold_ns))
		cold_ns = UINT64_MAX;
	ret->deny = true;
	ret->wait = json_bool(json_get(t->args, "wait"), false);
	ret->free = enough ? (uint64_t)free_bytes : UINT64_MAX;
	ret->cold_ns = cold_ns;
	return 0;
}

/*
 * A layer that is not mounted goes whole. One of which something is pinned is mounted for it, or
 * kept so that it is not unmounted meanwhile: it goes span by span.
 */
static int evict_place(struct ctl_task *t, const struct place *p, const struct evict_want *want,
		       struct evicted *ret, struct err *e)
{
	struct layer *l = NULL;
	int r = 0;

	*ret = (struct evicted){0};
	if (pins_bytes(&p->diff_id, 0, p->size))
		r = layer_mount(t->en, &p->diff_id, &p->scope, &l, e);
	if (r == 0)
		r = evict_layer(t->en, &p->diff_id, &p->scope, want, ret, e);
	if (l)
		layer_umount(t->en, l);
	return r;
}

int verb_evict(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	bool all = json_bool(json_get(t->args, "all"), false);
	const char *what = all ? NULL : arg_str(t, "what", e);
	struct evict_want want = {.cancelled = cancelled, .ctx = t};
	_cleanup_places_ struct places ps = {.v = NULL};
	struct evicted sum = {0};
	int r;

	if (!all && !what)
		return CTL_USAGE;
	r = read_want(t, &want, e);
	if (r == 0)
		r = pins_load(t->en, e);
	if (r == 0)
		r = all ? places_all(t->en, &ps, e) : places_find(t->en, what, &ps, e);
	for (size_t i = 0; r == 0 && i < ps.n && want.free > 0; i++) {
		struct evicted ev;

		r = evict_place(t, &ps.v[i], &want, &ev, e);
		sum.freed += ev.freed;
		sum.kept_in_use += ev.kept_in_use;
		if (want.free != UINT64_MAX)
			want.free -= ev.freed < want.free ? ev.freed : want.free;
		if (r == 0)
			r = send_layer(t, &ps.v[i], &ev);
	}
	if (r < 0)
		return r;
	json_put_int(done, "freed", (int64_t)sum.freed);
	json_put_int(done, "kept_in_use", (int64_t)sum.kept_in_use);
	return 0;
}
