/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/verbs.h"
#include "plugin/store/load.h"
#include "plugin/store/pull.h"

static int progress(void *ctx, const char *text, uint64_t done, uint64_t total)
{
	return ctl_send_progress(ctx, text, done, total);
}

static bool cancelled(void *ctx)
{
	return ctl_cancelled(ctx);
}

static int read_keep(const char *text, enum pull_keep *ret, struct err *e)
{
	if (!text || strcmp(text, "auto") == 0)
		*ret = PULL_AUTO;
	else if (strcmp(text, "all") == 0)
		*ret = PULL_ALL;
	else if (strcmp(text, "none") == 0)
		*ret = PULL_NONE;
	else
		return err_set(e, CTL_USAGE, "--keep takes auto, all or none, not '%.100s'", text);
	return 0;
}

static int read_request(const struct json *args, struct pull_request *rq, struct err *e)
{
	const char *platform = json_get_str(args, "platform");

	memset(rq, 0, sizeof(*rq));
	rq->src = json_get_str(args, "source");
	if (!rq->src)
		return err_set(e, CTL_USAGE, "pull: no source given");
	platform_local(&rq->platform);
	if (platform && platform_parse(platform, &rq->platform, e) < 0)
		return err_wrap(e, CTL_USAGE, "pull");
	rq->name = json_get_str(args, "name");
	/* Wherever an image is named, a digest can stand. */
	if (rq->name && strncmp(rq->name, "sha256:", strlen("sha256:")) == 0)
		return err_set(e, CTL_USAGE, "--name %.200s: that would be a digest", rq->name);
	rq->user = json_get_str(args, "user");
	rq->secret = json_get_str(args, "secret");
	rq->tls_verify = json_bool(json_get(args, "tls_verify"), true);
	return read_keep(json_get_str(args, "keep"), &rq->keep, e);
}

static void put_result(struct ctl_task *t, const struct record *rec, struct json_gen *done)
{
	uint64_t size = 0, resident = 0;
	char text[DIGEST_TEXT];

	for (uint32_t i = 0; i < rec->nlayers; i++) {
		const struct record_layer *l = &rec->layers[i];
		struct digest scope = record_scope(rec, l);

		size += l->size;
		resident += layer_resident(t->en, &l->diff_id, &scope);
	}
	json_put_str(done, "digest", digest_text(&rec->manifest, text));
	json_put_str(done, "name", rec->names.n ? rec->names.v[0] : NULL);
	json_put_int(done, "layers", rec->nlayers);
	json_put_int(done, "size", (int64_t)size);
	json_put_int(done, "resident", (int64_t)resident);
}

int verb_pull(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const struct watch w = {.progress = progress, .cancelled = cancelled, .ctx = t};
	_cleanup_(record_freep) struct record *rec = NULL;
	struct pull_request rq;
	int r;

	r = read_request(t->args, &rq, e);
	if (r == 0)
		r = pull_image(t->en, &rq, &w, &rec, e);
	if (r < 0)
		return r;
	put_result(t, rec, done);
	return 0;
}
