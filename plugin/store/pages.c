/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pages.h"

#include <string.h>

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
