/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_UAPI_H
#define PLUGIN_UAPI_H

/*
 * Kernel interfaces newer than the headers of the distributions we build on (Debian 12: Linux
 * 6.1). Values from include/uapi/linux/fanotify.h and mount.h of Linux 6.14 and later.
 */

#include <stdint.h>
#include <sys/fanotify.h>

#ifndef FAN_PRE_ACCESS
#define FAN_PRE_ACCESS 0x00100000
#endif
#ifndef FAN_EVENT_INFO_TYPE_RANGE
#define FAN_EVENT_INFO_TYPE_RANGE 6
#endif
#ifndef FAN_ERRNO_SHIFT
#define FAN_ERRNO_SHIFT 24
#define FAN_ERRNO_MASK  0xff
#endif
/* Only EPERM, EIO, EBUSY, ETXTBSY, EAGAIN, ENOSPC, EDQUOT are accepted (law 9). */
#define FAN_DENY_WITH(err) (FAN_DENY | (((uint32_t)(err)&FAN_ERRNO_MASK) << FAN_ERRNO_SHIFT))

struct fan_range_record {
	uint8_t type; /* FAN_EVENT_INFO_TYPE_RANGE */
	uint8_t pad;
	uint16_t len;
	uint32_t pad2;
	uint64_t offset;
	uint64_t count;
};

/* What of a file is in the page cache (Linux 6.5); libseccomp 2.5.4 has no name for it. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct cache_range {
	uint64_t off, len;
};
struct cache_pages {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/* read_ahead_kb of a file system is found by the name this gives. */
struct fs_sysfs_path {
	uint8_t len;
	uint8_t name[128];
};
#ifndef FS_IOC_GETFSSYSFSPATH
#include <sys/ioctl.h>
#define FS_IOC_GETFSSYSFSPATH _IOR(0x15, 1, struct fs_sysfs_path)
#endif

#endif
