/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pages.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "oci/base/limits.h"
#include "oci/erofs/crc32c.h"

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
