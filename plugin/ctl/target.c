/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/target.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"
#include "plugin/loop.h"
#include "plugin/store/images.h"
#include "plugin/store/layer.h"
#include "plugin/store/load.h"
#include "plugin/store/present.h"

void places_free(struct places *ps)
{
	records_free(&ps->records);
	for (size_t i = 0; i < ps->n; i++)
		free(ps->v[i].warning);
	free(ps->v);
	*ps = (struct places){.v = NULL};
}

static struct place *find(const struct places *ps, const struct digest *diff_id,
			  const struct digest *scope)
{
	for (size_t i = 0; i < ps->n; i++)
		if (digest_equal(&ps->v[i].diff_id, diff_id) &&
		    digest_equal(&ps->v[i].scope, scope))
			return &ps->v[i];
	return NULL;
}

/* The one that is there, or a new one; NULL when out of memory. */
static struct place *add(struct places *ps, const struct digest *diff_id,
			 const struct digest *scope)
{
	struct place *p = find(ps, diff_id, scope);

	if (p)
		return p;
	/* Doubled at every power of two. */
	if ((ps->n & (ps->n - 1)) == 0) {
		p = reallocarray(ps->v, ps->n ? 2 * ps->n : 1, sizeof(*p));
		if (!p)
			return NULL;
		ps->v = p;
	}
	p = &ps->v[ps->n++];
	*p = (struct place){.diff_id = *diff_id, .scope = *scope};
	return p;
}

static int add_layer(struct places *ps, const struct record *rec, const struct record_layer *l)
{
	struct digest scope = record_scope(rec, l);
	struct place *p = add(ps, &l->diff_id, &scope);

	if (!p)
		return -ENOMEM;
	p->l = l;
	p->size = l->size;
	return 0;
}

static int add_record(struct places *ps, const struct record *rec)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < rec->nlayers; i++)
		r = add_layer(ps, rec, &rec->layers[i]);
	return r;
}

/* --- what the loop knows --- */

struct look {
	struct engine *en;
	struct places *ps;
	bool all; /* mounted ones that are not listed yet, too */
};

static int look_at_mounted(void *ctx)
{
	struct look *k = ctx;

	for (const struct layer *l = k->en->layers; l; l = l->next) {
		struct place *p = k->all ? add(k->ps, &l->diff_id, &l->scope)
					 : find(k->ps, &l->diff_id, &l->scope);

		if (!p && k->all)
			return -ENOMEM;
		if (!p)
			continue;
		p->mounted = true;
		p->size = l->index.tar_size;
		p->complete = l->complete;
		p->evicting = l->evicting;
		p->quarantined = l->quarantined;
		p->users = engine_layer_mounts(k->en, l);
		if (l->vanished && !p->warning) {
			char words[FLIGHT_WHY];

			flight_vanished_words(l, words, sizeof(words));
			p->warning = strdup(words);
		}
	}
	return 0;
}

static int look(struct engine *en, struct places *ps, bool all, struct err *e)
{
	struct look k = {.en = en, .ps = ps, .all = all};
	int r = loop_call(en->loop, look_at_mounted, &k);

	return r < 0 ? err_errno(e, r, "listing layers") : 0;
}

/* --- which layers --- */

int places_all(struct engine *en, struct places *ret, struct err *e)
{
	_cleanup_places_ struct places ps = {.v = NULL};
	int r = images_load(en, &ps.records, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ps.records.n; i++)
		r = add_record(&ps, ps.records.v[i]);
	if (r < 0)
		return err_errno(e, r, "listing layers");
	r = look(en, &ps, true, e);
	if (r < 0)
		return r;
	*ret = ps;
	ps = (struct places){.v = NULL};
	return 0;
}

/* An image when @image, a layer when @layer; both: whichever it is. */
static int find_what(struct places *ps, const char *what, bool image, bool layer, struct err *e)
{
	const struct record *rec = image ? records_find(&ps->records, what) : NULL;
	const struct record_layer *l = NULL;
	int r = 0;

	if (rec)
		r = add_record(ps, rec);
	else if (!layer)
		return err_set(e, -ENOENT, "image %.200s is not known: tarn pull it first", what);
	else
		r = records_find_layer(&ps->records, what, &rec, &l, e);
	if (r == -ENOENT && layer)
		return err_set(e, r, "%.200s is neither an image nor a layer that is known here",
			       what);
	if (r == -EINVAL) {
		r = CTL_USAGE; /* it is how it was asked for */
		if (e)
			e->code = r;
	}
	if (r == 0 && l)
		r = add_layer(ps, rec, l);
	return r == -ENOMEM ? err_errno(e, r, "listing layers") : r;
}

static int find_places(struct engine *en, const char *what, bool layer, struct places *ret,
		       struct err *e)
{
	_cleanup_places_ struct places ps = {.v = NULL};
	int r = images_load(en, &ps.records, e);

	if (r == 0)
		r = find_what(&ps, what, true, layer, e);
	if (r == 0)
		r = look(en, &ps, false, e);
	if (r < 0)
		return r;
	*ret = ps;
	ps = (struct places){.v = NULL};
	return 0;
}

int places_of_image(struct engine *en, const char *image, struct places *ret, struct err *e)
{
	return find_places(en, image, false, ret, e);
}

int places_find(struct engine *en, const char *what, struct places *ret, struct err *e)
{
	return find_places(en, what, true, ret, e);
}

/* --- rows --- */

const char *place_state(struct engine *en, const struct place *p)
{
	if (p->quarantined)
		return "quarantined";
	if (p->evicting)
		return "evicting";
	if (!digest_is_zero(&p->scope))
		return "unproven";
	return p->complete || (!p->mounted && present_whole(en, &p->diff_id, &p->scope))
		       ? "complete"
		       : "lazy";
}

static void put_place(struct json_gen *g, struct engine *en, const struct place *p)
{
	char text[DIGEST_TEXT];

	json_put_str(g, "diff_id", digest_text(&p->diff_id, text));
	json_put_str(g, "blob", p->l ? digest_text(&p->l->blob.digest, text) : NULL);
	json_put_str(g, "media_type", p->l ? media_name(p->l->blob.media) : NULL);
	json_put_int(g, "size", (int64_t)p->size);
	json_put_int(g, "resident", (int64_t)layer_resident(en, &p->diff_id, &p->scope));
	json_put_str(g, "state", place_state(en, p));
	json_put_int(g, "mounts", p->users);
	json_put_bool(g, "mounted", p->mounted);
	json_put_str(g, "warning", p->warning);
}

static int send_place(struct ctl_task *t, const struct place *p, const char *member)
{
	_cleanup_json_text_ struct json_text row;

	ctl_row_open(&row);
	if (member)
		json_open_map(row.g, member);
	put_place(row.g, t->en, p);
	if (member)
		json_close_map(row.g);
	return ctl_row_send(t, &row);
}

int places_send(struct ctl_task *t, const struct places *ps, const char *member, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ps->n; i++)
		r = send_place(t, &ps->v[i], member);
	return r < 0 ? err_errno(e, r, "listing layers") : 0;
}

const char *arg_str(const struct ctl_task *t, const char *name, struct err *e)
{
	const char *v = json_get_str(t->args, name);

	if (!v || !v[0]) {
		err_set(e, CTL_USAGE, "the request has no '%s'", name);
		return NULL;
	}
	return v;
}
