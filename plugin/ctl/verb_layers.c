/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/store/images.h"
#include "plugin/store/load.h"

int verb_layers(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *image = json_get_str(t->args, "image");
	_cleanup_places_ struct places ps = {.v = NULL};
	int r = image ? places_of_image(t->en, image, &ps, e) : places_all(t->en, &ps, e);

	return r < 0 ? r : places_send(t, &ps, NULL, e);
}

/* A layer that an image has twice is there once, but it is mounted, and counted, twice. */
static void sum_layers(struct engine *en, const struct record *rec, uint64_t *ret_size,
		       uint64_t *ret_resident)
{
	*ret_size = *ret_resident = 0;
	for (uint32_t i = 0; i < rec->nlayers; i++) {
		struct digest scope = record_scope(rec, &rec->layers[i]);

		*ret_size += rec->layers[i].size;
		*ret_resident += layer_resident(en, &rec->layers[i].diff_id, &scope);
	}
}

/* One row for each name; an image without any has one, too. */
static int send_image(struct ctl_task *t, const struct record *rec)
{
	char text[DIGEST_TEXT];
	uint64_t size, resident;
	size_t i = 0;
	int r = 0;

	sum_layers(t->en, rec, &size, &resident);
	do {
		_cleanup_json_text_ struct json_text row;

		ctl_row_open(&row);
		json_put_str(row.g, "name", rec->names.n ? rec->names.v[i] : NULL);
		json_put_str(row.g, "digest", digest_text(&rec->manifest, text));
		json_put_int(row.g, "layers", rec->nlayers);
		json_put_int(row.g, "size", (int64_t)size);
		json_put_int(row.g, "resident", (int64_t)resident);
		r = ctl_row_send(t, &row);
	} while (r == 0 && ++i < rec->names.n);
	return r;
}

int verb_images(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	_cleanup_(records_free) struct records rs = {.n = 0};
	int r = images_load(t->en, &rs, e);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < rs.n; i++)
		r = send_image(t, rs.v[i]);
	return r < 0 ? err_errno(e, r, "listing images") : 0;
}
