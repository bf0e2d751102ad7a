/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_JSON_NODE_H
#define OCI_BASE_JSON_NODE_H

#include <stdint.h>

/* What a value is made of. For json.c and json_gen.c alone; everybody else uses json.h. */
enum json_type {
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json {
	const char *key; /* borrowed from text; NULL unless a member of an object. Without NULs */
	union {
		const char *text;           /* string, number: borrowed from text */
		const struct json *members; /* array, object: borrowed from nodes */
	};
	uint32_t len; /* bytes of text, or members */
	enum json_type type;
};

#endif
