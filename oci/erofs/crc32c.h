/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_CRC32C_H
#define OCI_EROFS_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * crc32c (Castagnoli, reflected polynomial 0x82F63B78) as EROFS wants it: start with
 * CRC32C_INIT, feed piece by piece, no inversion at the end.
 */
#define CRC32C_INIT 0xffffffffu

uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
