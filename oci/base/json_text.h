/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_JSON_TEXT_H
#define OCI_BASE_JSON_TEXT_H

#include <stdbool.h>

#include "oci/base/buf.h"
#include "oci/base/json.h"

/* A JSON text that is being written: a buffer of its own and the generator that fills it. */
struct json_text {
	struct buf text;    /* owned; text.failed says what went wrong, out of memory too */
	struct json_gen *g; /* owned */
};

static inline void json_text_open(struct json_text *t, size_t max, bool pretty)
{
	buf_init(&t->text, max);
	t->g = json_gen_new(&t->text, pretty);
}

static inline void json_text_free(struct json_text *t)
{
	t->g = json_gen_free(t->g);
	buf_free(&t->text);
}
#define _cleanup_json_text_ __attribute__((cleanup(json_text_free)))

#endif
