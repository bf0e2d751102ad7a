/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILL_FETCH_IMPL_H
#define PLUGIN_FILL_FETCH_IMPL_H

/*
 * What the files of the fetcher process share. It has one thread, does one job at a time and may
 * die at any moment without harm; nothing here logs or opens a file.
 *
 *	fetcher.c    the loop, slots, notes
 *	fetch_blob.c jobs about layers: SPANS, INDEX, CHECK
 *	fetch_doc.c  jobs about documents: MANIFEST, BLOB, PARSE_*
 */

#include <stdbool.h>
#include <stdint.h>

#include "plugin/fill/wire.h"
#include "plugin/keep.h"

struct err;
struct registry;

struct fetcher_self {
	int sock;           /* borrowed */
	uint8_t *buffer;    /* borrowed, FETCH_BUFFER_SIZE */
	const char *ca_pem; /* borrowed, or NULL */
	size_t ca_pem_len;
	uint32_t lent;        /* bit i: the engine has slot i */
	bool gone;            /* the engine closed the socket, or talks nonsense */
	struct registry *reg; /* owned; made with the two timeouts, or NULL */
	uint32_t connect_timeout_ms, stall_timeout_ms;
	struct fetch_job job;  /* the current one */
	int fds[KEEP_FDS_MAX]; /* owned; came with it; -1 */
	int nfds;
	uint64_t received; /* bytes of the blob read for it */
};

static inline uint8_t *fetch_slot(const struct fetcher_self *f, uint32_t slot)
{
	return f->buffer + (size_t)slot * LIMIT_SPAN_MAX;
}

/* Waits until some slot is ours and returns it; -EPIPE when the engine is gone. */
int fetch_slot_any(struct fetcher_self *f);
int fetch_slot_wait(struct fetcher_self *f, uint32_t slot);
/* Fills op and id and sends; FETCH_SPAN and FETCH_BYTES lend the slot. 0 or -EPIPE. */
int fetch_say(struct fetcher_self *f, enum fetch_kind op, struct fetch_note *note);
/* The registry client for the current job. */
int fetch_registry(struct fetcher_self *f, struct registry **ret, struct err *e);

/* A job: 0, with @done's fields filled where FETCH_DONE has some, or -errno and words. */
int fetch_spans(struct fetcher_self *f, struct fetch_note *done, struct err *e);
int fetch_index(struct fetcher_self *f, struct fetch_note *done, struct err *e);
int fetch_check(struct fetcher_self *f, struct err *e);
int fetch_manifest(struct fetcher_self *f, struct fetch_note *done, struct err *e);
int fetch_small_blob(struct fetcher_self *f, struct fetch_note *done, struct err *e);
int fetch_parse_layout(struct fetcher_self *f, struct fetch_note *done, struct err *e);
int fetch_parse_manifest(struct fetcher_self *f, struct fetch_note *done, struct err *e);
int fetch_parse_config(struct fetcher_self *f, struct fetch_note *done, struct err *e);

#endif
