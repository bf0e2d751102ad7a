/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_JSON_SCAN_H
#define OCI_BASE_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>

/*
 * One look over a JSON text before the parser gets it, for what yajl does not bound or gets
 * wrong. It knows strings and comments and nothing else: whether the text is JSON at all is for
 * the parser to say.
 *
 * Refused: nesting past LIMIT_JSON_DEPTH, and half a surrogate pair in a string. In these cases
 * the result is the reason (static), and @ret_value the byte it is about; else the result is
 * NULL, and @ret_value the most values that a text with these brackets and commas can have.
 */
const char *json_scan(const uint8_t *data, size_t len, size_t *ret_value);

#endif
