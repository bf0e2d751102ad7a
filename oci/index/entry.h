/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_INDEX_ENTRY_H
#define OCI_INDEX_ENTRY_H

#include <stdint.h>
#include <stddef.h>

/* What one tar member means for the layer's tree. The value is stored on disk. */
enum entry_type {
	ENTRY_REG = 1,
	ENTRY_DIR = 2,
	ENTRY_SYMLINK = 3,
	ENTRY_HARDLINK = 4, /* `target` is the path of an earlier member of this layer */
	ENTRY_CHR = 5,
	ENTRY_BLK = 6,
	ENTRY_FIFO = 7,
	ENTRY_WHITEOUT = 8, /* `path` is the name that is hidden (without ".wh.") */
	ENTRY_OPAQUE = 9,   /* `path` is the directory that is opaque */
};

struct entry_xattr {
	const char *name;   /* borrowed, with its prefix ("security.capability"), NUL-terminated */
	const void *value;  /* borrowed */
	uint32_t value_len; /* <= LIMIT_XATTR_VALUE */
};

/*
 * One member of a layer's tar, normalised: the path has no leading '/', no empty, "." or ".."
 * component and no NUL; the root directory is "". All pointers are borrowed from whoever made
 * the entry and live until the next one is asked for.
 */
struct entry {
	enum entry_type type;
	const char *path;   /* NUL-terminated, < LIMIT_PATH bytes */
	const char *target; /* symlink text or hard link path; NULL for others */
	uint32_t mode;      /* permission, set-id and sticky bits (07777) */
	uint32_t uid, gid;
	uint32_t rdev_major, rdev_minor; /* devices */
	int64_t mtime;                   /* seconds, may be negative */
	uint32_t mtime_ns;               /* < 1e9 */
	uint64_t size;                   /* bytes of a regular file */
	uint64_t tar_offset; /* of a regular file's data in the plain tar; multiple of 512 */
	uint32_t nxattrs;    /* sorted by name, no duplicates */
	const struct entry_xattr *xattrs;
};

#endif
