/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_DISK_H
#define OCI_EROFS_DISK_H

/*
 * What the kernel reads, all of it little-endian (Linux fs/erofs/erofs_fs.h). Only what our
 * images use has a name here; every reserved byte is zero.
 *
 * A node number ("nid") is the byte position of its inode divided by 32.
 */

#include <assert.h>
#include <stddef.h>
#include <linux/types.h>

#define EROFS_SUPER_OFFSET 1024
#define EROFS_MAGIC        0xE0F5E1E2u
#define EROFS_BLOCK_BITS   9
#define EROFS_BLOCK        (1u << EROFS_BLOCK_BITS)
#define EROFS_NID_SIZE     32
#define EROFS_DEVICE_UNIT  128

#define EROFS_COMPAT_SB_CHKSUM      0x1u
#define EROFS_COMPAT_MTIME          0x2u
#define EROFS_INCOMPAT_CHUNKED_FILE 0x4u
#define EROFS_INCOMPAT_DEVICE_TABLE 0x8u

struct erofs_super {
	__le32 magic;
	__le32 checksum; /* crc32c without the final inversion of [1024, 1536), this field as 0 */
	__le32 feature_compat;
	__u8 blkszbits;
	__u8 sb_extslots;
	__le16 root_nid;
	__le64 inos;
	__le64 epoch;
	__le32 epoch_nsec;
	__le32 blocks; /* of the primary device, that is of the image without what follows it */
	__le32 meta_blkaddr;
	__le32 xattr_blkaddr;
	__u8 uuid[16];
	__u8 volume_name[16]; /* NUL-terminated */
	__le32 feature_incompat;
	__le16 compression_algs;
	__le16 extra_devices;
	__le16 devt_slotoff; /* in units of 128 bytes from the start of the image */
	__u8 dirblkbits;
	__u8 xattr_prefix_count;
	__le32 xattr_prefix_start;
	__u8 reserved[32];
};

struct erofs_device {
	__u8 tag[64];
	__le32 blocks;
	__le32 uniaddr;
	__u8 reserved[56];
};

/* i_format: bit 0 says "extended inode" (64 bytes), bits 1 to 3 where the data is. */
#define EROFS_EXTENDED       1
#define EROFS_FLAT_PLAIN     (0 << 1 | EROFS_EXTENDED) /* whole blocks, from i_u on */
#define EROFS_FLAT_INLINE    (2 << 1 | EROFS_EXTENDED) /* the last block behind the inode */
#define EROFS_CHUNK_BASED    (4 << 1 | EROFS_EXTENDED) /* chunk indexes behind the inode */
#define EROFS_NO_BLOCK       0xffffffffu
#define EROFS_CHUNK_INDEXES  0x20 /* 8-byte indexes; bits 0 to 4: log2(blocks in a chunk) */
#define EROFS_CHUNK_BITS_MAX 31

struct erofs_inode {
	__le16 format;
	__le16 xattr_icount; /* 0, or 1 + (bytes of the xattr body - 12) / 4 */
	__le16 mode;
	__le16 reserved;
	__le64 size;
	__le32 u; /* first block, device number or chunk format */
	__le32 ino;
	__le32 uid;
	__le32 gid;
	__le64 mtime;
	__le32 mtime_nsec;
	__le32 nlink;
	__u8 reserved2[16];
};

struct erofs_chunk_index {
	__le16 reserved;
	__le16 device_id; /* 1: the first device= of the mount */
	__le32 block;
};

struct erofs_dirent {
	__le64 nid;
	__le16 nameoff;
	__u8 file_type;
	__u8 reserved;
} __attribute__((packed));

enum {
	EROFS_FT_REG = 1,
	EROFS_FT_DIR = 2,
	EROFS_FT_CHR = 3,
	EROFS_FT_BLK = 4,
	EROFS_FT_FIFO = 5,
	EROFS_FT_LNK = 7,
};

struct erofs_xattr_body {
	__le32 name_filter;
	__u8 shared_count;
	__u8 reserved[7];
};

/* Followed by the name without its prefix and the value, padded with zeros to 4 bytes. */
struct erofs_xattr_entry {
	__u8 name_len;
	__u8 name_index;
	__le16 value_size;
};

enum {
	EROFS_XATTR_USER = 1,
	EROFS_XATTR_ACL_ACCESS = 2,
	EROFS_XATTR_ACL_DEFAULT = 3,
	EROFS_XATTR_TRUSTED = 4,
	EROFS_XATTR_SECURITY = 6,
};

/* The largest xattr body that xattr_icount can say. */
#define EROFS_XATTR_BODY_MAX (sizeof(struct erofs_xattr_body) + 4 * (0xffff - 1))

static_assert(sizeof(struct erofs_super) == 128, "superblock");
static_assert(offsetof(struct erofs_super, root_nid) == 14, "superblock: root nid");
static_assert(offsetof(struct erofs_super, inos) == 16, "superblock: inos");
static_assert(offsetof(struct erofs_super, blocks) == 36, "superblock: blocks");
static_assert(offsetof(struct erofs_super, uuid) == 48, "superblock: uuid");
static_assert(offsetof(struct erofs_super, feature_incompat) == 80, "superblock: incompat");
static_assert(offsetof(struct erofs_super, extra_devices) == 86, "superblock: devices");
static_assert(offsetof(struct erofs_super, devt_slotoff) == 88, "superblock: device slot");
static_assert(offsetof(struct erofs_super, xattr_prefix_start) == 92, "superblock: prefixes");
static_assert(sizeof(struct erofs_device) == EROFS_DEVICE_UNIT, "device slot");
static_assert(offsetof(struct erofs_device, blocks) == 64, "device slot: blocks");
static_assert(sizeof(struct erofs_inode) == 64, "inode");
static_assert(offsetof(struct erofs_inode, size) == 8, "inode: size");
static_assert(offsetof(struct erofs_inode, u) == 16, "inode: i_u");
static_assert(offsetof(struct erofs_inode, uid) == 24, "inode: uid");
static_assert(offsetof(struct erofs_inode, mtime) == 32, "inode: mtime");
static_assert(offsetof(struct erofs_inode, nlink) == 44, "inode: nlink");
static_assert(sizeof(struct erofs_chunk_index) == 8, "chunk index");
static_assert(sizeof(struct erofs_dirent) == 12, "dirent");
static_assert(sizeof(struct erofs_xattr_body) == 12, "xattr body");
static_assert(sizeof(struct erofs_xattr_entry) == 4, "xattr entry");

#endif
