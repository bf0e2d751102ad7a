/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/parents.h"

#include <errno.h>
#include <stdlib.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/erofs/parents.h"
#include "plugin/keep.h"
#include "plugin/log.h"
#include "plugin/store/claim.h"
#include "plugin/store/ingest.h"
#include "plugin/store/kept.h"
#include "plugin/store/record.h"

/* The indexes of all layers of an image, bottom first. */
struct stack {
	struct index *ix; /* owned array */
	void **bytes;     /* owned, and each of them; what ix borrows from */
	uint32_t n;
};

static void stack_free(struct stack *s)
{
	for (uint32_t i = 0; s->bytes && i < s->n; i++)
		free(s->bytes[i]);
	free(s->bytes);
	free(s->ix);
}

static int stack_load(struct engine *en, const struct record *rec, struct stack *s, struct err *e)
{
	s->ix = calloc(rec->nlayers, sizeof(*s->ix));
	s->bytes = calloc(rec->nlayers, sizeof(*s->bytes));
	if (!s->ix || !s->bytes)
		return err_errno(e, -ENOMEM, "the directories of an image");
	for (s->n = 0; s->n < rec->nlayers; s->n++) {
		const struct record_layer *l = &rec->layers[s->n];
		struct digest scope = record_scope(rec, l);
		int r = layer_index_read(en, &l->diff_id, &scope, &s->ix[s->n], &s->bytes[s->n], e);

		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * The claim is for the temporary name: two containers that start at once may find the file missing
 * together. A file whose image is removed before its record is saved is made again when needed.
 */
static int write_image(struct engine *en, const struct record *rec, const struct buf *toc,
		       uint64_t nentries, struct err *e)
{
	struct keep_file f = file_of(KEEP_PARENTS, &rec->manifest);
	_cleanup_claim_ struct claim c = CLAIM_INIT;
	_cleanup_fd_ int fd = -1;
	int r;

	claim_take(&c, CLAIM_IMAGES, NULL, NULL, NULL);
	if (nentries == 0)
		return file_drop(en, &f, e);
	r = file_create(en, &f, &fd, e);
	if (r == 0)
		r = parents_write(toc, nentries, &rec->manifest, fd, e);
	return r < 0 ? r : file_publish(en, &f, e);
}

static int find(struct engine *en, const struct record *rec, struct buf *toc,
		uint64_t *ret_nentries, struct err *e)
{
	_cleanup_(stack_free) struct stack s = {.n = 0};
	int r = stack_load(en, rec, &s, e);

	return r < 0 ? r : parents_find(s.ix, s.n, toc, ret_nentries, e);
}

int parents_make(struct engine *en, struct record *rec, struct err *e)
{
	_cleanup_buf_ struct buf toc;
	uint64_t nentries = 0;
	int r = 0;

	buf_init(&toc, LIMIT_TOC);
	/* Nothing lies below an only layer. */
	if (rec->nlayers > 1)
		r = find(en, rec, &toc, &nentries, e);
	if (r == 0)
		r = write_image(en, rec, &toc, nentries, e);
	if (r < 0)
		return r;
	rec->parents = nentries > 0;
	return 0;
}

int parents_renew(struct engine *en, struct record *rec, struct err *e)
{
	char text[DIGEST_TEXT];

	log_info("image %s: its parents image is made anew", digest_text(&rec->manifest, text));
	return parents_make(en, rec, e);
}

int parents_ensure(struct engine *en, struct record *rec, struct err *e)
{
	struct keep_file f = file_of(KEEP_PARENTS, &rec->manifest);
	_cleanup_fd_ int fd = -1;
	int r;

	if (!rec->parents)
		return 0;
	r = file_open(en, &f, &fd, e);
	if (r == 0)
		r = parents_check(fd, &rec->manifest, e);
	return r == -ENOENT || r == -EBADMSG ? parents_renew(en, rec, e) : r;
}
