/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_FD_H
#define OCI_BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buf;
struct err;

/* Whole reads and writes: EINTR is retried, a short transfer goes on. 0 or -errno. */
int fd_pread_full(int fd, void *buf, size_t len, uint64_t off); /* end of file: -ENODATA */
int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t off);
int fd_write_full(int fd, const void *buf, size_t len);
/* Reads to the end of file into @b (its maximum is the limit; more is -EFBIG). */
int fd_read_all(int fd, struct buf *b);

/*
 * Opens @path below @dirfd without leaving it and without following any symbolic link
 * (openat2 RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS|RESOLVE_NO_MAGICLINKS). fd or -errno.
 */
int fd_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/*
 * Opens @path as a process whose root were @dirfd would: symbolic links are followed but can
 * not lead out (RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS). fd or -errno.
 */
int fd_open_in_root(int dirfd, const char *path, int flags, mode_t mode);

/*
 * Crash-safe publication: writes @data to a temporary name in @dirfd, fsyncs it, renames it to
 * @name and fsyncs the directory. After a crash @name has the old content or the new.
 */
int fd_publish(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
	       struct err *e);
/* The last step alone, for a file that was written under @tmp (already fsynced by the writer). */
int fd_publish_rename(int dirfd, const char *tmp, const char *name, struct err *e);

/*
 * Calls @fn for each entry of a directory but "." and "..", in no order, until it returns other
 * than 0. Takes @fd, and what open*() said in its place: a negative one is returned. Returns what
 * @fn returned last, 0 after the last entry, -errno when not all of them could be read.
 */
typedef int fd_entry_fn(void *ctx, int dirfd, const char *name);
int fd_each_entry(int fd, fd_entry_fn *fn, void *ctx);

/* mkdirat that takes an existing directory for success. 0 or -errno. */
int fd_mkdir(int dirfd, const char *name, mode_t mode);

/*
 * Removes @name (relative) below @dirfd and all it holds, never following links or mounts: a
 * mount in it is -EBUSY, and what is left then may have moved within @name. 0 or -errno.
 */
int fd_remove_tree(int dirfd, const char *name);

/* Bytes the file system really holds for @fd (512 * st_blocks), or -errno. */
int64_t fd_resident(int fd);

int fd_set_cloexec(int fd, int on);

#endif
