/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/collect.h"
#include "plugin/ctl/gate.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/attached.h"
#include "plugin/store/claim.h"
#include "plugin/store/images.h"
#include "plugin/store/kept.h"
#include "plugin/store/pins.h"

static int send_removed(struct ctl_task *t, const char *kind, const char *name, uint64_t freed)
{
	_cleanup_json_text_ struct json_text row;

	ctl_row_open(&row);
	json_put_str(row.g, "kind", kind);
	json_put_str(row.g, "name", name);
	json_put_int(row.g, "freed", (int64_t)freed);
	return ctl_row_send(t, &row);
}

/* --- layers --- */

static int gc_layers(struct ctl_task *t, const struct records *rs, uint64_t *freed, struct err *e)
{
	_cleanup_free_ struct keep_found *list = NULL;
	char text[DIGEST_TEXT];
	uint64_t bytes = 0;
	size_t n = 0;
	int r = file_list_found(t->en, KEEP_TAR, &list, &n, e);

	for (size_t i = 0; r >= 0 && i < n; i++) {
		r = collect_layer(t->en, rs, &list[i].key, &list[i].scope, &bytes, e);
		if (r <= 0)
			continue;
		*freed += bytes;
		r = send_removed(t, "layer", digest_text(&list[i].key, text), bytes);
	}
	return r < 0 ? r : 0;
}

/* --- files of images; the caller has CLAIM_IMAGES --- */

static bool blob_named(const struct records *rs, const struct digest *d)
{
	for (size_t i = 0; i < rs->n; i++)
		if (digest_equal(&rs->v[i]->manifest, d) ||
		    digest_equal(&rs->v[i]->config.digest, d))
			return true;
	return false;
}

static int gc_files(struct ctl_task *t, const struct records *rs, enum keep_kind kind,
		    struct err *e)
{
	_cleanup_free_ struct keep_found *list = NULL;
	char text[DIGEST_TEXT];
	size_t n = 0;
	int r = file_list_found(t->en, kind, &list, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct keep_file f = file_of(kind, &list[i].key);
		bool named = kind == KEEP_BLOB ? blob_named(rs, &list[i].key)
					       : records_by_digest(rs, &list[i].key) != NULL;

		if (named)
			continue;
		r = file_drop(t->en, &f, e);
		if (r == 0)
			r = send_removed(t, kind == KEEP_BLOB ? "blob" : "index image",
					 digest_text(&list[i].key, text), 0);
	}
	return r;
}

static int gc_images(struct ctl_task *t, struct err *e)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	int r;

	claim_take(&c, CLAIM_IMAGES, NULL, NULL, NULL);
	r = images_load(t->en, &rs, e);
	if (r == 0)
		r = gc_files(t, &rs, KEEP_BLOB, e);
	return r < 0 ? r : gc_files(t, &rs, KEEP_PARENTS, e);
}

/* --- pins of images that are gone --- */

static int gc_pins(struct ctl_task *t, const struct records *rs, struct err *e)
{
	_cleanup_free_ struct digest *list = NULL;
	char text[DIGEST_TEXT];
	size_t n = 0;
	bool had;
	int r = pins_images(t->en, &list, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (records_by_digest(rs, &list[i]))
			continue;
		r = pins_drop(t->en, &list[i], &had, e);
		if (r == 0)
			r = send_removed(t, "pin", digest_text(&list[i], text), 0);
	}
	return r;
}

/* --- containers --- */

struct look {
	struct engine *en;
	const char *id;
};

static int is_attached(void *ctx)
{
	const struct look *k = ctx;

	for (const struct attachment *a = k->en->attachments; a; a = a->next)
		if (strcmp(a->id, k->id) == 0)
			return 1;
	return 0;
}

static bool attached(struct engine *en, const char *id)
{
	struct look k = {.en = en, .id = id};

	return loop_call(en->loop, is_attached, &k) != 0;
}

/*
 * Writable layers that no root file system uses now. Whether their containers still exist only
 * the runtimes know, so who asks looks there and names those that are to go in a second request.
 */
static int list_idle(struct ctl_task *t, struct err *e)
{
	_cleanup_free_ struct keep_found *list = NULL;
	size_t n = 0;
	int r = file_list_found(t->en, KEEP_CONTAINER, &list, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		list[i].id[LIMIT_ID - 1] = '\0';
		if (!attached(t->en, list[i].id))
			r = send_removed(t, "idle", list[i].id, 0);
	}
	return r < 0 ? err_wrap(e, r, "gc") : 0;
}

static int gc_containers(struct ctl_task *t, struct err *e)
{
	const struct json *list = json_get(t->args, "containers");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_count(list); i++) {
		const char *id = json_str(json_at(list, i));

		if (!id || !attached_id_valid(id))
			return err_set(e, CTL_USAGE, "'%.200s' is no container id", id ? id : "");
		if (attached(t->en, id))
			continue;
		r = attached_remove(t->en, id, e);
		if (r == 0)
			r = send_removed(t, "container", id, 0);
		else if (r == -EBUSY)
			r = 0; /* it came back */
	}
	return r;
}

/* --- all of it --- */

/* A record that cannot be read names layers all the same. */
static int load_all(struct engine *en, struct records *ret, struct err *e)
{
	_cleanup_free_ struct digest *list = NULL;
	size_t n = 0;
	int r = file_list(en, KEEP_RECORD, &list, &n, e);

	if (r == 0)
		r = images_load(en, ret, e);
	if (r == 0 && ret->n < n)
		return err_set(
			e, -EBADMSG,
			"the record of an image cannot be read, so that nobody can say which "
			"layers are needed: tarnd's log names it; pull or rm the image");
	return r;
}

static int gc(struct ctl_task *t, uint64_t *freed, struct err *e)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	int r = load_all(t->en, &rs, e);

	if (r == 0)
		r = gc_pins(t, &rs, e);
	if (r == 0)
		r = gc_layers(t, &rs, freed, e);
	return r < 0 ? r : gc_images(t, e);
}

int verb_gc(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	uint64_t freed = 0;
	int r;

	if (json_bool(json_get(t->args, "look"), false))
		return list_idle(t, e);
	r = gc_containers(t, e);
	if (r < 0)
		return r;
	if (!gate_close())
		return err_set(e, -EBUSY,
			       "an image is being pulled, so that nobody can say which layers are "
			       "needed: try again when it is done");
	r = gc(t, &freed, e);
	gate_open();
	if (r < 0)
		return e && e->code ? r : err_errno(e, r, "gc");
	json_put_int(done, "freed", (int64_t)freed);
	return 0;
}

/* --- rm --- */

/* The layers that only this image had; what is in use, or a pull may want, is left to gc. */
static int drop_layers(struct ctl_task *t, const struct record *rec, uint64_t *freed, struct err *e)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	uint64_t bytes = 0;
	int r;

	if (!gate_close())
		return 0;
	r = images_load(t->en, &rs, e);
	for (uint32_t i = 0; r >= 0 && i < rec->nlayers; i++) {
		struct digest scope = record_scope(rec, &rec->layers[i]);

		r = collect_layer(t->en, &rs, &rec->layers[i].diff_id, &scope, &bytes, e);
		*freed += r > 0 ? bytes : 0;
	}
	gate_open();
	return r < 0 ? r : 0;
}

int verb_rm(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *image = arg_str(t, "image", e);
	_cleanup_(record_freep) struct record *rec = NULL;
	bool gone = false, pinned;
	uint64_t freed = 0;
	int r = image ? image_find(t->en, image, &rec, e) : CTL_USAGE;

	if (r == 0)
		r = image_remove(t->en, image, &gone, e);
	if (r == 0 && gone)
		r = pins_drop(t->en, &rec->manifest, &pinned, e);
	if (r == 0 && gone)
		r = drop_layers(t, rec, &freed, e);
	if (r < 0)
		return r;
	json_put_bool(done, "gone", gone);
	json_put_int(done, "freed", (int64_t)freed);
	return 0;
}
