/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/codec/codec.h"
#include "oci/stream.h"

#define OUT_MAX (1u << 20) /* what one input may make of itself */
#define SPAN    (32u << 10)

static ssize_t fill(struct decoder *d, uint8_t *out, size_t n)
{
	size_t got = 0;
	ssize_t r;

	while (got < n) {
		r = decoder_read(d, out + got, n - got, NULL);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

static struct decoder *open_at(const uint8_t *data, size_t end, const struct checkpoint *cp,
			       const struct decoder_options *opt, struct stream **ret_in)
{
	uint64_t from = cp ? cp->in - (cp->bits ? 1 : 0) : 0;
	enum codec_kind kind = codec_sniff(data, end < 6 ? end : 6);
	struct decoder *d = NULL;

	if (from > end || stream_of_mem(data + from, end - from, ret_in) < 0)
		abort();
	if (decoder_open(kind, cp, *ret_in, opt, &d, NULL) < 0)
		abort();
	return d;
}

/* The span at @at again, from the checkpoint before it and with the bytes it needed alone. */
static void resume(const uint8_t *data, size_t end, const struct checkpoint *cp, uint64_t at,
		   const uint8_t *want, size_t len)
{
	static const struct decoder_options opt = {0};
	_cleanup_(stream_freep) struct stream *in = NULL;
	_cleanup_(decoder_freep) struct decoder *d = open_at(data, end, cp, &opt, &in);
	size_t skip = (size_t)(at - cp->out);
	_cleanup_free_ uint8_t *out = malloc(skip + len);

	if (!out)
		return;
	if (fill(d, out, skip + len) != (ssize_t)(skip + len))
		abort();
	if (memcmp(out + skip, want, len) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever can be decoded can be decoded again from every checkpoint, and plainly too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct decoder_options track = {.track = true, .verify = true};
	static const struct decoder_options plain = {.verify = true};
	static uint8_t out[SPAN], again[SPAN];
	_cleanup_(stream_freep) struct stream *in = NULL, *in2 = NULL;
	_cleanup_(decoder_freep) struct decoder *d = open_at(data, size, NULL, &track, &in);
	_cleanup_(decoder_freep) struct decoder *p = open_at(data, size, NULL, &plain, &in2);
	_cleanup_free_ struct checkpoint *cp = calloc(1, sizeof(*cp));

	for (uint64_t at = 0; cp && at < OUT_MAX; at += SPAN) {
		ssize_t n, m;

		decoder_checkpoint(d, cp);
		if (cp->out > at)
			abort();
		n = fill(d, out, SPAN);
		m = fill(p, again, SPAN);
		if (n != m || (n > 0 && memcmp(out, again, (size_t)n) != 0))
			abort();
		if (n <= 0)
			break;
		if (decoder_consumed(d) > size)
			abort();
		resume(data, (size_t)decoder_consumed(d), cp, at, out, (size_t)n);
		if (n < (ssize_t)SPAN)
			break;
	}
	return 0;
}
