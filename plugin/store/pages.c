/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/fd.h"
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

#define PAGES_AT_ONCE 16u /* compared; on a thread's stack */

/* #syscalls engine: cachestat */
static int ask_cache(int fd, uint64_t off, size_t len, struct cache_pages *ret)
{
	struct cache_range range = {.off = off, .len = len};

	return syscall(SYS_cachestat, fd, &range, ret, 0) < 0 ? -errno : 0;
}

/* In doubt there are. */
static bool has_any(int fd, uint64_t off, size_t len)
{
	struct cache_pages p;

	return ask_cache(fd, off, len, &p) < 0 || p.cached > 0;
}

/* In doubt there are. */
static bool has_clean(int fd, uint64_t off, size_t len)
{
	struct cache_pages p;

	if (ask_cache(fd, off, len, &p) < 0)
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

/* #syscalls engine: fallocate */
int pages_punch(int fd, uint64_t off, size_t len)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			 (off_t)round_up(len, PAGE_BYTES)) < 0
		       ? -errno
		       : 0;
}

int pages_renew(int fd, uint64_t off, size_t len)
{
	if (!has_any(fd, off, len) || is_memory(fd))
		return 0;
	(void)pages_drop(fd, off, len);
	return has_any(fd, off, len) ? pages_punch(fd, off, len) : 0;
}

/* At least one byte, without waiting for a disk where the file system can say. */
static ssize_t read_cached(int fd, void *buf, size_t len, uint64_t off)
{
	const struct iovec to = {.iov_base = buf, .iov_len = len};
	/* #syscalls engine: preadv2 */
	ssize_t n = preadv2(fd, &to, 1, (off_t)off, RWF_NOWAIT);

	if (n < 0 && errno == EOPNOTSUPP)
		n = pread(fd, buf, len, (off_t)off);
	return n;
}

static int read_cached_full(int fd, void *buf, size_t len, uint64_t off)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = read_cached(fd, (uint8_t *)buf + got, len - got, off + got);

		if (n == 0 || (n < 0 && errno != EINTR))
			return -EIO;
		got += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static bool sums_are(const uint8_t *data, size_t len, const uint32_t *crc)
{
	for (; len > 0; crc++) {
		size_t n = len < PAGE_BYTES ? len : PAGE_BYTES;

		if (page_crc(data, n) != *crc)
			return false;
		data += n;
		len -= n;
	}
	return true;
}

bool pages_are(int fd, uint64_t off, size_t len, const uint32_t *crc, bool cached)
{
	uint8_t some[PAGES_AT_ONCE * PAGE_BYTES];

	while (len > 0) {
		size_t n = len < sizeof(some) ? len : sizeof(some);
		int r = cached ? read_cached_full(fd, some, n, off)
			       : fd_pread_full(fd, some, n, off);

		if (r < 0 || !sums_are(some, n, crc))
			return false;
		crc += PAGES_AT_ONCE;
		off += n;
		len -= n;
	}
	return true;
}

/* As many as LIMIT_HELD may be locked; found out before the engine is forked off. */
static bool may_lock;

/* #syscalls engine: mlock */
void *pages_hold(int fd, uint64_t off, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, (off_t)off);

	if (p == MAP_FAILED)
		return NULL;
	return mlock(p, len) < 0 && may_lock ? pages_let_go(p, len) : p;
}

void *pages_let_go(void *held, size_t len)
{
	if (held)
		munmap(held, len);
	return NULL;
}

bool pages_raise_limit(void)
{
	struct rlimit l = {.rlim_cur = LIMIT_HELD, .rlim_max = LIMIT_HELD};

	may_lock = setrlimit(RLIMIT_MEMLOCK, &l) == 0;
	if (may_lock || getrlimit(RLIMIT_MEMLOCK, &l) < 0)
		return may_lock;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_MEMLOCK, &l);
	return false;
}
