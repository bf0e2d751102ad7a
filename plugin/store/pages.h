/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PAGES_H
#define PLUGIN_STORE_PAGES_H

#include <stddef.h>
#include <stdint.h>

/*
 * crc32c of each 4 KiB page of a span, to tell in microseconds whether the page cache still holds
 * what was written (law 5). They guard against pages that write-back lost, not against an
 * attacker: nobody but the engine can write to the tar. By SSE4.2 where the CPU has it.
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

#endif
