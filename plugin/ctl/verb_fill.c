/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/store/filling.h"
#include "plugin/store/load.h"
#include "plugin/store/pull.h"

static int tell(void *ctx, const char *text, uint64_t done, uint64_t total)
{
	return ctl_send_progress(ctx, text, done, total);
}

static bool cancelled(void *ctx)
{
	return ctl_cancelled(ctx);
}

static int send_filled(struct ctl_task *t, const struct place *p, uint64_t resident)
{
	_cleanup_json_text_ struct json_text row;
	char text[DIGEST_TEXT];

	ctl_row_open(&row);
	json_put_str(row.g, "diff_id", digest_text(&p->diff_id, text));
	json_put_int(row.g, "size", (int64_t)p->size);
	json_put_int(row.g, "resident", (int64_t)resident);
	return ctl_row_send(t, &row);
}

/* The layers as filling.h wants them; the caller's to free. NULL when out of memory. */
static struct pin_layer *wanted(const struct places *ps)
{
	struct pin_layer *v = calloc(ps->n + 1, sizeof(*v));

	for (size_t i = 0; v && i < ps->n; i++) {
		v[i].diff_id = ps->v[i].diff_id;
		v[i].scope = ps->v[i].scope;
		v[i].whole = true;
	}
	return v;
}

static int fill_now(struct ctl_task *t, const struct pin_layer *v, size_t n, struct err *e)
{
	const struct watch w = {.progress = tell, .cancelled = cancelled, .ctx = t};
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = filling_layer(t->en, &v[i], &w, e);
	return r;
}

int verb_fill(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *what = arg_str(t, "what", e);
	_cleanup_places_ struct places ps = {.v = NULL};
	uint64_t size = 0, resident = 0;
	struct pin_layer *v;
	int r = what ? places_find(t->en, what, &ps, e) : CTL_USAGE;

	if (r < 0)
		return r;
	v = wanted(&ps);
	if (!v)
		return err_errno(e, -ENOMEM, "fill");
	if (json_bool(json_get(t->args, "wait"), false)) {
		r = fill_now(t, v, ps.n, e);
		pin_layers_free(v, ps.n);
	} else {
		r = filling_start(t->en, v, ps.n);
		if (r < 0)
			err_errno(e, r, "fill");
	}
	for (size_t i = 0; r == 0 && i < ps.n; i++) {
		uint64_t here = layer_resident(t->en, &ps.v[i].diff_id, &ps.v[i].scope);

		size += ps.v[i].size;
		resident += here;
		r = send_filled(t, &ps.v[i], here);
	}
	if (r < 0)
		return r;
	json_put_int(done, "layers", (int64_t)ps.n);
	json_put_int(done, "size", (int64_t)size);
	json_put_int(done, "resident", (int64_t)resident);
	return 0;
}
