/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pages.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/limits.h"
#include "oci/erofs/crc32c.h"
#include "plugin/uapi.h"

#ifdef __x86_64__
/* The CRC32 instruction computes this very polynomial (Intel SDM, CRC32). */
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t crc = CRC32C_INIT, word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		crc = __builtin_ia32_crc32di(crc, word);
	}
	while (len--)
		crc = __builtin_ia32_crc32qi((uint32_t)crc, *p++);
	return (uint32_t)crc;
}

uint32_t page_crc(const void *data, size_t len)
{
	if (__builtin_cpu_supports("sse4.2"))
		return crc_sse42(data, len);
	return crc32c(CRC32C_INIT, data, len);
}
#else
uint32_t page_crc(const void *data, size_t len)
{
	return crc32c(CRC32C_INIT, data, len);
}
#endif

void pages_crc(const void *data, size_t len, uint32_t *ret)
{
	const uint8_t *p = data;

	for (; len > 0; ret++) {
		size_t n = len < PAGE_BYTES ? len : PAGE_BYTES;

		*ret = page_crc(p, n);
		p += n;
		len -= n;
	}
}

/* Pages that cannot be dropped at once are being looked at by somebody, or written back. */
#define DROP_TRIES    100
#define DROP_PAUSE_US 2000u

/* In doubt there are. #syscalls engine: cachestat */
static bool has_clean(int fd, uint64_t off, size_t len)
{
	struct cache_range range = {.off = off, .len = len};
	struct cache_pages p;

	if (syscall(SYS_cachestat, fd, &range, &p, 0) < 0)
		return true;
	/* One that is written back may have become dirty again, and counts as both. */
	return p.cached > (p.dirty > p.writeback ? p.dirty : p.writeback);
}

/* Where there is no disk behind the page cache nothing is ever lost. #syscalls engine: fstatfs */
static bool is_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* #syscalls engine: fadvise64 clock_nanosleep */
bool pages_drop(int fd, uint64_t off, size_t len)
{
	/* A large folio goes as a whole or not at all, and may begin before what we want. */
	uint64_t wide = round_down(off, LIMIT_SPAN_MAX);
	uint64_t wide_len = off - wide + len + LIMIT_SPAN_MAX;

	(void)posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
	for (int i = 0; i < DROP_TRIES; i++) {
		if (!has_clean(fd, off, len) || is_memory(fd))
			return true;
		usleep(DROP_PAUSE_US);
		(void)posix_fadvise(fd, (off_t)wide, (off_t)wide_len, POSIX_FADV_DONTNEED);
	}
	return !has_clean(fd, off, len);
}

/* #syscalls engine: mlock */
void *pages_hold(int fd, uint64_t off, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, (off_t)off);

	if (p == MAP_FAILED)
		return NULL;
	(void)mlock(p, len);
	return p;
}

void *pages_let_go(void *held, size_t len)
{
	if (held)
		munmap(held, len);
	return NULL;
}

void pages_raise_limit(void)
{
	struct rlimit l = {.rlim_cur = LIMIT_HELD, .rlim_max = LIMIT_HELD};

	if (setrlimit(RLIMIT_MEMLOCK, &l) == 0 || getrlimit(RLIMIT_MEMLOCK, &l) < 0)
		return;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_MEMLOCK, &l);
}
