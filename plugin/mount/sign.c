/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/mount/sign.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNKNOWN UINT64_MAX

/*
 * An EROFS of n inodes says that 2^64 - 1 - n are free (fs/erofs/super.c, erofs_statfs()); what
 * else has no block device says 0, or how many there are. #syscalls engine: ustat
 */
uint64_t mount_sign(uint64_t dev)
{
#ifdef SYS_ustat
	struct {
		int32_t blocks_free; /* struct ustat, which the C library dropped */
		unsigned long inodes_free;
		char room[64];
	} found = {0};

	if (syscall(SYS_ustat, (unsigned)dev, &found) == 0)
		return found.inodes_free;
	return errno == EINVAL ? 0 : UNKNOWN;
#else
	return UNKNOWN;
#endif
}

bool mount_there(uint64_t dev, uint64_t sign)
{
	uint64_t now = mount_sign(dev);

	return now && (now == sign || now == UNKNOWN || sign == UNKNOWN);
}
