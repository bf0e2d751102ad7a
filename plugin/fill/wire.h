/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILL_WIRE_H
#define PLUGIN_FILL_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "oci/base/err.h"
#include "oci/codec/codec.h"
#include "oci/config.h"
#include "oci/manifest.h"
#include "oci/registry.h"

/*
 * What engine and fetcher say to each other: SOCK_SEQPACKET messages of fixed-size structs, and a
 * shared buffer (a memfd sealed against resizing) of FETCH_SLOTS slots of LIMIT_SPAN_MAX bytes.
 * The fetcher is the only process that parses bytes from outside, so the engine believes nothing
 * it says: lengths are checked, content is copied out before its digest is computed.
 *
 * One job at a time. The engine sends FETCH_JOB (with the blob's fd when the source is local, and
 * for FETCH_INDEX two memfds for the results); the fetcher answers with any number of FETCH_SPAN
 * or FETCH_BYTES and ends with FETCH_DONE or FETCH_FAIL. A slot of the buffer belongs to the
 * fetcher until FETCH_SPAN or FETCH_BYTES names it and to the engine until FETCH_ACK gives it back,
 * which may be during a later job. Spans come in order, each exactly once, none left out. When
 * the socket closes the fetcher exits.
 */
#define FETCH_SLOTS       4u
#define FETCH_BUFFER_SIZE ((size_t)FETCH_SLOTS * LIMIT_SPAN_MAX)

enum fetch_kind {
	FETCH_SPANS = 1, /* decode spans [first_span, +nspans) */
	FETCH_INDEX, /* decode everything: FETCH_SPANs; TOC to the last fd but one, map to the last
		      */
	FETCH_MANIFEST, /* registry manifest by `reference` → slot 0: bytes; content type, digest */
	FETCH_BLOB,     /* small blob by digest (config) → slot 0: bytes */
	FETCH_PARSE_LAYOUT,   /* slot 0 holds index.json → struct descriptor in slot 1 */
	FETCH_PARSE_MANIFEST, /* slot 0 holds a manifest or index → struct manifest_doc in slot 1 */
	FETCH_PARSE_CONFIG,   /* slot 0 holds a config → struct diff_ids in slot 1 */
	FETCH_CHECK,          /* is the registry's blob there? */
	/* from engine to fetcher, during a job */
	FETCH_ACK, /* slot */
	/* from fetcher to engine */
	FETCH_SPAN,  /* slot, span, len */
	FETCH_BYTES, /* slot, len: the result of MANIFEST, BLOB, PARSE_* */
	FETCH_DONE,
	FETCH_FAIL, /* code, text */
};

/* Where the bytes of a blob are. */
struct fetch_source {
	uint32_t local; /* 1: the fd that came with the message; 0: `at` */
	struct registry_at at;
	struct digest blob;
	uint64_t blob_size;
};

struct fetch_job {
	uint32_t op; /* enum fetch_kind */
	uint32_t id; /* echoed in every answer */
	struct fetch_source source;
	char what[LIMIT_NAME]; /* names the input in errors: "layer sha256:…" */

	/* SPANS, INDEX */
	uint32_t codec; /* enum codec_kind (INDEX sniffs for itself) */
	uint32_t span_size;
	uint32_t first_span, nspans;
	uint64_t tar_size; /* SPANS */
	uint64_t in_start; /* SPANS: first blob byte to read */
	uint64_t in_end;
	uint32_t stall_timeout_ms, connect_timeout_ms;
	uint32_t anew; /* SPANS: what storage gave was wrong: it is to be looked for again */

	/* MANIFEST, PARSE_* */
	char reference[LIMIT_NAME];    /* tag or digest; PARSE_LAYOUT: ref name or "" */
	char content_type[LIMIT_NAME]; /* PARSE_MANIFEST: "" = unknown */
	struct platform platform;
	uint32_t len; /* PARSE_*: bytes in slot 0 */

	struct checkpoint from; /* SPANS: where decoding starts; last, it is large */
};

struct fetch_ack {
	uint32_t op; /* FETCH_ACK */
	uint32_t slot;
};

struct fetch_note {
	uint32_t op;
	uint32_t id;
	uint32_t slot, span, len;
	int32_t code;                /* FETCH_FAIL: negative errno */
	uint32_t retry_after_s;      /* FETCH_FAIL: what the registry asked for; 0 = nothing */
	uint64_t received;           /* compressed bytes taken from the source so far */
	uint64_t tar_size, nentries; /* FETCH_DONE of an INDEX */
	struct digest digest;        /* FETCH_BYTES of a MANIFEST: what the transport says it is */
	char content_type[LIMIT_NAME]; /* FETCH_BYTES of a MANIFEST */
	char text[256];                /* FETCH_FAIL: one line */
	struct err_links links;        /* of `text` */
};

/*
 * The fetcher's main function, called in the sandboxed process: serves jobs on @sock until it
 * closes. @buffer is the shared buffer. @ca_pem may be NULL. Returns an exit status.
 */
int fetcher_main(int sock, void *buffer, const char *ca_pem, size_t ca_pem_len);

#endif
