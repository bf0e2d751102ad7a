/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PAGES_H
#define PLUGIN_STORE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A page whose write-back has failed is clean, and may be dropped at any moment: what is read next
 * are zeros, without an error (law 5). So what was written is kept in the page cache until it is
 * durable, and looked at each time somebody is about to be let at it; only to look is not enough,
 * since a reader copies it later, and on a busy machine much later.
 *
 * crc32c of each 4 KiB page of a span, to tell in microseconds whether the page cache still holds
 * what was written. They guard against pages that write-back lost, not against an attacker: nobody
 * but the engine can write to the tar. By SSE4.2 where the CPU has it.
 */
#define PAGE_BYTES 4096u

static inline uint32_t pages_count(size_t len)
{
	return (uint32_t)((len + PAGE_BYTES - 1) / PAGE_BYTES);
}

/* Of one page or a part of it. */
uint32_t page_crc(const void *data, size_t len);

/* One sum per page of @data into @ret[pages_count(len)]; the last page may be short. */
void pages_crc(const void *data, size_t len, uint32_t *ret);

/*
 * Takes bytes [@off, @off + @len) of @fd out of the page cache, so that what is read next is from
 * the disk, and what is written next is written to new pages. What is dirty stays, for the
 * fdatasync that tells of it. False: some are in use by others, who have had time to let go.
 */
bool pages_drop(int fd, uint64_t off, size_t len);

/*
 * Frees bytes [@off, @off + @len) of @fd, on disk and in the page cache, whoever looks at them;
 * @len is rounded out to pages, as the last span's end is the file's. 0 or -errno.
 */
int pages_punch(int fd, uint64_t off, size_t len);

/*
 * Before something is written to [@off, @off + @len) of @fd: whatever the page cache has of it is
 * dropped, or punched out where somebody keeps it from going, so that all is written to new pages.
 * A page whose write-back has failed is not to be written again: ext4 leaves the extent below it
 * unwritten, and says of the next fdatasync that all is well. 0 or -errno. In a thread: may wait.
 */
int pages_renew(int fd, uint64_t off, size_t len);

/*
 * Is that what these pages were, by the sums that pages_crc() made of them? @cached: only if they
 * can be had without waiting for the disk, for the loop thread. @off is on a page.
 */
bool pages_are(int fd, uint64_t off, size_t len, const uint32_t *crc, bool cached);

/*
 * Maps bytes [@off, @off + @len) of @fd, @off on a page, and locks them. As long as they are mapped
 * nothing that empties the page cache takes them (mm/truncate.c, mapping_evict_folio()), and as
 * long as they are locked what is short of memory does not either. A file system may: ext4 takes
 * them away when it finds no room at write-back. It is not to be read through: a page that cannot
 * be had again is a SIGBUS. On an fd that was opened before the mark this raises no event.
 *
 * NULL when that cannot be, or when LIMIT_HELD bytes are locked already. Where this process may not
 * lock as many to begin with they are only mapped, and memory that is short takes them.
 */
void *pages_hold(int fd, uint64_t off, size_t len);
/* NULL-safe; returns NULL. */
void *pages_let_go(void *held, size_t len);

/*
 * Lets this process and its children lock LIMIT_HELD bytes; before rights are dropped. False: as
 * many as it may, which are fewer.
 */
bool pages_raise_limit(void);

#endif
