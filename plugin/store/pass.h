/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PASS_H
#define PLUGIN_STORE_PASS_H

#include "oci/base/buf.h"
#include "oci/index/index.h"
#include "plugin/store/ingest.h"

/*
 * The index pass as the engine sees it: the fetcher sends the tar in spans, and at the end the
 * table of contents and the blob map. It may lie about all of it: the spans must hash to the
 * diff_id, the other two are checked field by field.
 */
struct pass {
	const struct ingest *in;   /* borrowed */
	const struct index *known; /* borrowed; the index there is already, or NULL */
	int fd_tar;                /* borrowed; content goes there, -1: it is not kept */
	uint32_t span_size;
	struct hasher *whole; /* owned */
	struct buf digests;   /* owned; struct digest[] of the spans */
	struct buf toc;       /* owned */
	struct buf map;       /* owned; encoded */
	uint64_t tar_size;
	uint64_t nentries;
	uint32_t nspans;
	bool last;          /* a span shorter than span_size came: nothing may follow */
	uint64_t unsettled; /* bytes written to fd_tar, and not yet the store's */
	uint64_t told_ms;   /* when progress was told last */
};

/* Runs it. @p is zeroed but for in, known and fd_tar; free it with pass_done() in any case, once
 * its file is there or gone. */
int pass_run(struct pass *p, struct err *e);
void pass_done(struct pass *p);
/* What was written is the store's now (@listed), or it is gone again (space.h). */
void pass_settle(struct pass *p, bool listed);

/* The index that was found: it borrows from @p. */
struct index pass_index(const struct pass *p);

#endif
