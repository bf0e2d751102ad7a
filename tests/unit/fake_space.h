/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FAKE_SPACE_H
#define TESTS_UNIT_FAKE_SPACE_H

/* A store that has room, or not, as the test says; nothing is evicted. */

#include <stdatomic.h>

#include "oci/base/fd.h"
#include "plugin/store/space.h"

static struct {
	atomic_int taking; /* what space_take() and space_pwrite() say */
	atomic_bool makes; /* room is being made for whoever wants it */
	atomic_uint wants, gave_back;
	_Atomic int64_t taken; /* bytes, less what was given back */
	atomic_int want_err;
	atomic_bool want_disk;
} fake_space;

int space_take(struct space *s, uint64_t bytes, bool waited)
{
	if (fake_space.taking == 0)
		fake_space.taken += (int64_t)bytes;
	return fake_space.taking;
}

void space_give_back(struct space *s, uint64_t bytes)
{
	fake_space.taken -= (int64_t)bytes;
	fake_space.gave_back++;
}

void space_wrote(struct space *s, uint64_t bytes) {}

void space_freed(struct space *s, uint64_t bytes, uint64_t counts) {}

void space_settle(struct engine *en, uint64_t bytes, bool listed)
{
	if (!listed)
		space_give_back(NULL, bytes);
}

bool space_want(struct space *s, uint64_t bytes, int err, bool disk)
{
	fake_space.want_err = err;
	fake_space.want_disk = disk;
	fake_space.wants++;
	return fake_space.makes;
}

int space_closed(struct space *s, uint64_t bytes)
{
	return fake_space.taking;
}

bool space_make(struct engine *en, uint64_t bytes, bool disk)
{
	return false;
}

int space_pwrite(struct engine *en, int fd, const void *data, uint64_t len, uint64_t off)
{
	return fake_space.taking < 0 ? fake_space.taking : fd_pwrite_full(fd, data, len, off);
}

#endif
