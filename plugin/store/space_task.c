/* SPDX-License-Identifier: Apache-2.0 */
/* Content that a task writes: what space.c counts on the loop. */
#include <errno.h>

#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/space.h"

struct taking {
	struct space *s;
	uint64_t bytes;
};

static int take(void *ctx)
{
	const struct taking *t = ctx;

	return space_take(t->s, t->bytes, true);
}

static int wrote(void *ctx)
{
	const struct taking *t = ctx;

	space_wrote(t->s, t->bytes);
	return 0;
}

static int give_back(void *ctx)
{
	const struct taking *t = ctx;

	space_give_back(t->s, t->bytes);
	return 0;
}

void space_settle(struct engine *en, uint64_t bytes, bool listed)
{
	struct taking t = {.s = en->space, .bytes = bytes};

	if (bytes > 0)
		loop_call(en->loop, listed ? wrote : give_back, &t);
}

static int take_and_write(struct engine *en, int fd, const void *data, uint64_t len, uint64_t off,
			  bool *ret_disk)
{
	struct taking t = {.s = en->space, .bytes = len};
	int r = loop_call(en->loop, take, &t);

	*ret_disk = r == 0;
	if (r < 0)
		return r;
	r = fd_pwrite_full(fd, data, len, off);
	if (r < 0)
		loop_call(en->loop, give_back, &t);
	return r;
}

int space_pwrite(struct engine *en, int fd, const void *data, uint64_t len, uint64_t off)
{
	bool disk;
	int r = take_and_write(en, fd, data, len, off, &disk);

	while ((r == -ENOSPC || r == -EDQUOT) && space_make(en, len, disk))
		r = take_and_write(en, fd, data, len, off, &disk);
	return r;
}
