/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/fill/flight.h"

struct reader {
	struct engine *en;    /* borrowed */
	struct oneshot *proc; /* owned */
	struct fetch_job job; /* large */
};

DEFINE_CLEANUP(struct reader, reader_free)

int reader_new(struct engine *en, struct reader **ret, struct err *e)
{
	_cleanup_(reader_freep) struct reader *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->en = en;
	r = oneshot_new(en, &d->proc, e);
	if (r < 0)
		return r;
	*ret = take_ptr(d);
	return 0;
}

struct reader *reader_free(struct reader *d)
{
	if (!d)
		return NULL;
	oneshot_free(d->proc);
	explicit_bzero(&d->job, sizeof(d->job));
	free(d);
	return NULL;
}

struct fetch_job *reader_begin(struct reader *d, enum fetch_kind op, const struct registry_at *at,
			       const char *what)
{
	struct fetch_job *job = &d->job;

	memset(job, 0, sizeof(*job));
	job->op = op;
	job->stall_timeout_ms = d->en->slots->settings.stall_timeout_ms;
	job->connect_timeout_ms = d->en->slots->settings.connect_timeout_ms;
	job->source.at = *at;
	snprintf(job->what, sizeof(job->what), "%s", what);
	return job;
}

struct answer {
	struct buf *out; /* borrowed */
	char *content_type;
	bool seen;
};

static int take_bytes(void *ctx, const struct fetch_note *n, const void *data, struct err *e)
{
	struct answer *a = ctx;

	if (n->op != FETCH_BYTES || a->seen)
		return err_set(e, -EPROTO, "the fetcher broke the protocol");
	a->seen = true;
	snprintf(a->content_type, LIMIT_NAME, "%s", n->content_type);
	if (buf_put(a->out, data, n->len) < 0)
		return err_errno(e, a->out->failed, "%u bytes", n->len);
	return 0;
}

int reader_run(struct reader *d, struct buf *out, char content_type[LIMIT_NAME], struct err *e)
{
	struct answer a = {.out = out, .content_type = content_type};
	int r = oneshot_run(d->proc, &d->job, NULL, 0, take_bytes, &a, NULL, e);

	if (r == 0 && !a.seen)
		return err_set(e, -EPROTO, "%s: the fetcher gave no answer", d->job.what);
	return r;
}

int reader_parse(struct reader *d, const struct buf *in, void *ret, size_t size, struct err *e)
{
	char content_type[LIMIT_NAME];
	_cleanup_buf_ struct buf out;
	int r;

	buf_init(&out, size);
	if (in->len > LIMIT_SPAN_MAX)
		return err_set(e, -EFBIG, "%s: too large", d->job.what);
	if (in->len)
		memcpy(oneshot_slot(d->proc, 0), in->data, in->len);
	d->job.len = (uint32_t)in->len;
	r = reader_run(d, &out, content_type, e);
	if (r < 0)
		return r;
	if (out.len != size)
		return err_set(e, -EPROTO, "%s: the fetcher broke the protocol", d->job.what);
	memcpy(ret, out.data, size);
	return 0;
}
