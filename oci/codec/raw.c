/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "oci/base/err.h"
#include "oci/codec/decoder.h"
#include "oci/stream.h"

/* A blob that is the tar itself: offsets in and out are the same, every byte is a checkpoint. */

static int raw_open(struct decoder *d, const struct checkpoint *from, struct err *e)
{
	if (from && from->in != from->out)
		return err_set(e, -EINVAL, "the checkpoint to decode from makes no sense");
	return 0;
}

static ssize_t raw_read(struct decoder *d, void *buf, size_t n, struct err *e)
{
	return stream_read(d->in, buf, n, e);
}

static uint64_t raw_consumed(const struct decoder *d)
{
	return d->out;
}

static void raw_checkpoint(const struct decoder *d, struct checkpoint *ret)
{
	ret->in = d->out;
	ret->out = d->out;
	ret->bits = 0;
	ret->member = false;
	ret->window_len = 0;
}

static void raw_free(struct decoder *d) {}

const struct decoder_ops decoder_raw = {
	.name = "raw",
	.open = raw_open,
	.read = raw_read,
	.consumed = raw_consumed,
	.checkpoint = raw_checkpoint,
	.free = raw_free,
};
