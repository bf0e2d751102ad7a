/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PULL_H
#define PLUGIN_STORE_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/manifest.h"
#include "plugin/store/record.h"

struct engine;
struct err;

/* Which content a pull leaves in the store (--keep). */
enum pull_keep {
	PULL_AUTO, /* what crossed a network to build an index; nothing of a local layout */
	PULL_ALL,
	PULL_NONE,
};

struct pull_request {
	const char *src; /* borrowed, as all strings; "oci:DIR" with an absolute DIR */
	struct platform platform;
	enum pull_keep keep;
	const char *name; /* NULL: ref_default_name() */
	bool tls_verify;  /* false: plain HTTP, or HTTPS without checking certificates */
	const char *user; /* NULL: anonymous */
	const char *secret;
};

/*
 * How a long task tells its client where it is, and learns that the client went away. The threads
 * of one task may call it at the same time.
 */
struct watch {
	int (*progress)(void *ctx, const char *text, uint64_t done, uint64_t total);
	bool (*cancelled)(void *ctx);
	void *ctx;
};

static inline bool watch_cancelled(const struct watch *w)
{
	return w && w->cancelled && w->cancelled(w->ctx);
}

/* 0, or -EPIPE when the client is gone. */
static inline int watch_tell(const struct watch *w, const char *text, uint64_t done, uint64_t total)
{
	return w && w->progress ? w->progress(w->ctx, text, done, total) : 0;
}

/*
 * Resolves an image, makes the index of every layer that the store does not know, brings as much
 * content as asked for, and records the image. Tasks only. @ret is the caller's to free. Several
 * layers are made at once. When one fails, the others are given up: those that were finished stay,
 * others leave nothing.
 */
int pull_image(struct engine *en, const struct pull_request *rq, const struct watch *w,
	       struct record **ret, struct err *e);

#endif
