/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/config.h"
#include "oci/manifest.h"
#include "oci/registry.h"
#include "plugin/fill/fetch_impl.h"

#define SLOT_IN  0u
#define SLOT_OUT 1u

_Static_assert(LIMIT_MANIFEST <= LIMIT_SPAN_MAX && LIMIT_CONFIG <= LIMIT_SPAN_MAX,
	       "documents fit a slot");
_Static_assert(sizeof(struct manifest_doc) <= LIMIT_SPAN_MAX, "so do their parsed forms");

static int say_bytes(struct fetcher_self *f, uint32_t slot, const void *data, size_t len,
		     struct fetch_note *note)
{
	int r = fetch_slot_wait(f, slot);

	if (r < 0)
		return r;
	memcpy(fetch_slot(f, slot), data, len);
	note->slot = slot;
	note->len = (uint32_t)len;
	return fetch_say(f, FETCH_BYTES, note);
}

int fetch_manifest(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	_cleanup_buf_ struct buf out;
	struct fetch_note note = {0};
	struct registry *reg;
	int r;

	buf_init(&out, LIMIT_MANIFEST);
	r = fetch_registry(f, &reg, e);
	if (r == 0)
		r = registry_manifest(reg, &f->job.source.at, f->job.reference, &out,
				      note.content_type, &note.digest, e);
	f->received = out.len;
	return r < 0 ? r : say_bytes(f, SLOT_IN, out.data, out.len, &note);
}

int fetch_small_blob(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	_cleanup_buf_ struct buf out;
	struct fetch_note note = {0};
	struct registry *reg;
	int r;

	buf_init(&out, LIMIT_CONFIG);
	r = fetch_registry(f, &reg, e);
	if (r == 0)
		r = registry_blob(reg, &f->job.source.at, &f->job.source.blob, &out, e);
	f->received = out.len;
	return r < 0 ? r : say_bytes(f, SLOT_IN, out.data, out.len, &note);
}

/* The document in slot 0, which the engine put there. */
static int input(struct fetcher_self *f, const void **ret, struct err *e)
{
	if (f->job.len > LIMIT_SPAN_MAX)
		return err_set(e, -EINVAL, "%s: it is larger than a slot", f->job.what);
	*ret = fetch_slot(f, SLOT_IN);
	return 0;
}

int fetch_parse_layout(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	const struct fetch_job *j = &f->job;
	struct fetch_note note = {0};
	struct descriptor d;
	const void *data = NULL;
	int r = input(f, &data, e);

	memset(&d, 0, sizeof(d));
	if (r == 0)
		r = layout_index_find(data, j->len, j->reference[0] ? j->reference : NULL, j->what,
				      &j->platform, &d, e);
	return r < 0 ? r : say_bytes(f, SLOT_OUT, &d, sizeof(d), &note);
}

int fetch_parse_manifest(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	const struct fetch_job *j = &f->job;
	struct fetch_note note = {0};
	struct manifest_doc doc;
	const void *data = NULL;
	int r = input(f, &data, e);

	memset(&doc, 0, sizeof(doc));
	if (r == 0)
		r = manifest_parse(data, j->len, j->content_type[0] ? j->content_type : NULL,
				   j->what, &j->platform, &doc, e);
	return r < 0 ? r : say_bytes(f, SLOT_OUT, &doc, sizeof(doc), &note);
}

int fetch_parse_config(struct fetcher_self *f, struct fetch_note *done, struct err *e)
{
	struct fetch_note note = {0};
	struct diff_ids ids;
	const void *data = NULL;
	int r = input(f, &data, e);

	memset(&ids, 0, sizeof(ids));
	if (r == 0)
		r = config_diff_ids(data, f->job.len, f->job.what, &ids, e);
	return r < 0 ? r : say_bytes(f, SLOT_OUT, &ids, sizeof(ids), &note);
}
