/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_UTF8_H
#define OCI_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Length of the well-formed sequence at the front of @left > 0 bytes, or 0 when there is none
 * (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing past U+10FFFF).
 */
size_t utf8_len(const uint8_t *p, size_t left);

/* Whether all of @p is well-formed. No bytes are. */
bool utf8_ok(const uint8_t *p, size_t len);

#endif
