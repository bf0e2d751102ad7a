/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/config.h"
#include "oci/manifest.h"

/* A refusal says why, in one line. */
static bool accepted(int r, struct err *e)
{
	if (r < 0 && (e->code != r || !*e->text || strchr(e->text, '\n')))
		abort();
	return r >= 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every document of an image, since all of them come from the same registry. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct platform want = {"linux", "amd64", ""};
	_cleanup_(run_config_free) struct run_config run = {.workdir = NULL};
	struct err e = ERR_INIT;
	struct manifest_doc doc;
	struct descriptor found;
	struct diff_ids ids;

	if (accepted(manifest_parse(data, size, NULL, "x", &want, &doc, &e), &e)) {
		if (doc.media == MEDIA_MANIFEST
			    ? doc.manifest.nlayers > LIMIT_LAYERS
			    : doc.chosen.media != MEDIA_MANIFEST && doc.chosen.media != MEDIA_INDEX)
			abort();
	}
	accepted(layout_index_find(data, size, NULL, "x", &want, &found, &e), &e);
	accepted(layout_index_find(data, size, "v1", "x", &want, &found, &e), &e);
	accepted(layout_version_check(data, size, "x", &e), &e);
	accepted(config_diff_ids(data, size, "x", &ids, &e), &e);
	accepted(config_parse_run(data, size, "x", &run, &e), &e);
	return 0;
}
