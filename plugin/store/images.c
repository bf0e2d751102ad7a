/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/images.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/store/claim.h"
#include "plugin/store/kept.h"

#define _cleanup_records_ _cleanup_(records_free)

static int load_one(struct engine *en, const struct digest *manifest, struct record **ret,
		    struct err *e)
{
	struct keep_file f = file_of(KEEP_RECORD, manifest);
	_cleanup_(record_freep) struct record *rec = NULL;
	char what[DIGEST_TEXT + 8] = "image ";
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_RECORD);
	digest_text(manifest, what + strlen(what));
	r = file_read(en, &f, &b, e);
	if (r < 0)
		return r;
	r = record_decode(b.data, b.len, what, &rec, e);
	if (r < 0)
		return r;
	if (!digest_equal(&rec->manifest, manifest))
		return err_set(e, -EBADMSG, "%s: the record is another image's", what);
	*ret = take_ptr(rec);
	return 0;
}

int images_load(struct engine *en, struct records *ret, struct err *e)
{
	_cleanup_free_ struct digest *list = NULL;
	_cleanup_records_ struct records rs = {.n = 0};
	size_t n = 0;
	int r;

	r = file_list(en, KEEP_RECORD, &list, &n, e);
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_(record_freep) struct record *rec = NULL;
		struct err why = ERR_INIT;

		r = load_one(en, &list[i], &rec, &why);
		if (r == -ENOMEM)
			return err_take(e, r, why.text, &why.links);
		/* -ENOENT: it was removed since it was listed. */
		if (r < 0 && r != -ENOENT)
			log_warn("%s", why.text);
		r = r < 0 ? 0 : records_add(&rs, rec);
		if (r == 0)
			rec = NULL;
	}
	if (r < 0)
		return err_errno(e, r, "reading the records of images");
	*ret = rs;
	rs = (struct records){.n = 0};
	return 0;
}

/* Takes @image's record out of @rs, so that it outlives it. */
static struct record *take_record(struct records *rs, const char *image)
{
	struct record *found = records_find(rs, image);

	for (size_t i = 0; found && i < rs->n; i++) {
		if (rs->v[i] == found) {
			rs->v[i] = rs->v[--rs->n];
			break;
		}
	}
	return found;
}

static int not_known(const char *image, struct err *e)
{
	return err_set(e, -ENOENT, "image %.200s is not known: tarn pull it first", image);
}

int image_find(struct engine *en, const char *image, struct record **ret, struct err *e)
{
	_cleanup_records_ struct records rs = {.n = 0};
	struct record *rec;
	int r;

	r = images_load(en, &rs, e);
	if (r < 0)
		return r;
	rec = take_record(&rs, image);
	if (!rec)
		return not_known(image, e);
	*ret = rec;
	return 0;
}

/* --- changing; the caller has the claim --- */

static int write_record(struct engine *en, const struct record *rec, struct err *e)
{
	struct keep_file f = file_of(KEEP_RECORD, &rec->manifest);
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_RECORD);
	r = record_encode(rec, &b);
	if (r < 0)
		return err_errno(e, r, "the record of an image");
	return file_update(en, &f, b.data, b.len, e);
}

static int write_index_json(struct engine *en, const struct records *rs, struct err *e)
{
	struct keep_file f = file_of(KEEP_INDEX_JSON, NULL);
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, LIMIT_STORE_INDEX);
	r = records_index_json(rs, &b);
	if (r < 0)
		return err_errno(e, r, "index.json of the store");
	return file_update(en, &f, b.data, b.len, e);
}

/* What the record on disk knows and @rec does not. */
static int merge(struct record *rec, const struct record *old)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < old->names.n; i++)
		r = record_add_name(rec, old->names.v[i]);
	for (size_t i = 0; r == 0 && i < old->sources.n; i++) {
		bool there = false;

		for (size_t k = 0; k < rec->sources.n; k++)
			there = there || strcmp(rec->sources.v[k], old->sources.v[i]) == 0;
		if (!there && rec->sources.n < LIMIT_SOURCES)
			r = strv_add(&rec->sources, old->sources.v[i]);
	}
	return r;
}

/* A name belongs to one image: the others lose it. */
static int take_names(struct engine *en, const struct records *rs, const struct record *rec,
		      struct err *e)
{
	for (size_t i = 0; i < rs->n; i++) {
		bool lost = false;
		int r;

		if (digest_equal(&rs->v[i]->manifest, &rec->manifest))
			continue;
		for (size_t k = 0; k < rec->names.n; k++)
			lost = record_drop_name(rs->v[i], rec->names.v[k]) || lost;
		r = lost ? write_record(en, rs->v[i], e) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* The record's own copy in @rs is replaced by @rec, for as long as index.json is made. */
static int publish(struct engine *en, struct records *rs, struct record *rec, struct err *e)
{
	struct record *old = records_by_digest(rs, &rec->manifest);
	int r = 0;

	for (size_t i = 0; i < rs->n; i++)
		if (rs->v[i] == old)
			rs->v[i] = rec;
	if (!old)
		r = records_add(rs, rec);
	if (r < 0)
		return err_errno(e, r, "index.json of the store");
	r = write_index_json(en, rs, e);
	for (size_t i = 0; old && i < rs->n; i++)
		if (rs->v[i] == rec)
			rs->v[i] = old;
	if (!old)
		rs->n--;
	return r;
}

static int update(struct engine *en, struct record *rec, struct err *e)
{
	_cleanup_records_ struct records rs = {.n = 0};
	const struct record *old;
	int r;

	r = images_load(en, &rs, e);
	if (r < 0)
		return r;
	old = records_by_digest(&rs, &rec->manifest);
	r = old ? merge(rec, old) : 0;
	if (r < 0)
		return err_errno(e, r, "the record of an image");
	/* The new owner first: a crash in between leaves a name twice, never nowhere. */
	r = write_record(en, rec, e);
	if (r == 0)
		r = take_names(en, &rs, rec, e);
	return r < 0 ? r : publish(en, &rs, rec, e);
}

int image_update(struct engine *en, struct record *rec, struct err *e)
{
	_cleanup_claim_ struct claim c = CLAIM_INIT;

	claim_take(&c, CLAIM_IMAGES, NULL, NULL, NULL);
	return update(en, rec, e);
}

int image_save(struct engine *en, struct record *rec, const void *manifest, size_t manifest_len,
	       const void *config, size_t config_len, struct err *e)
{
	struct keep_file fm = file_of(KEEP_BLOB, &rec->manifest);
	struct keep_file fc = file_of(KEEP_BLOB, &rec->config.digest);
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	int r;

	claim_take(&c, CLAIM_IMAGES, NULL, NULL, NULL);
	r = file_update(en, &fc, config, config_len, e);
	if (r == 0)
		r = file_update(en, &fm, manifest, manifest_len, e);
	return r < 0 ? r : update(en, rec, e);
}

static bool config_used(const struct records *rs, const struct digest *config)
{
	for (size_t i = 0; i < rs->n; i++)
		if (digest_equal(&rs->v[i]->config.digest, config))
			return true;
	return false;
}

/* @rec is no longer in @rs. The record first: without it the rest is only waste. */
static int remove_all(struct engine *en, const struct records *rs, const struct record *rec,
		      struct err *e)
{
	struct keep_file f = file_of(KEEP_RECORD, &rec->manifest);
	struct keep_file fm = file_of(KEEP_BLOB, &rec->manifest);
	struct keep_file fc = file_of(KEEP_BLOB, &rec->config.digest);
	struct keep_file fp = file_of(KEEP_PARENTS, &rec->manifest);
	int r;

	r = file_drop(en, &f, e);
	if (r == 0)
		r = write_index_json(en, rs, e);
	if (r == 0)
		r = file_drop(en, &fp, e);
	if (r == 0)
		r = file_drop(en, &fm, e);
	if (r == 0 && !config_used(rs, &rec->config.digest))
		r = file_drop(en, &fc, e);
	return r;
}

int image_remove(struct engine *en, const char *image, bool *ret_gone, struct err *e)
{
	_cleanup_records_ struct records rs = {.n = 0};
	_cleanup_(record_freep) struct record *rec = NULL;
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	bool gone;
	int r;

	claim_take(&c, CLAIM_IMAGES, NULL, NULL, NULL);
	r = images_load(en, &rs, e);
	if (r < 0)
		return r;
	rec = take_record(&rs, image);
	if (!rec)
		return not_known(image, e);
	/* Asked for by digest, the image goes with all its names. */
	gone = !record_drop_name(rec, image) || rec->names.n == 0;
	if (gone)
		r = remove_all(en, &rs, rec, e);
	else
		r = write_record(en, rec, e);
	if (r == 0 && !gone)
		r = publish(en, &rs, rec, e);
	if (r == 0 && ret_gone)
		*ret_gone = gone;
	return r;
}
