/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/parents.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/erofs/arena.h"
#include "oci/erofs/image.h"
#include "oci/erofs/tree.h"

static const char of_image[] = "the directories of the image";

/* A directory of the whole image, as far up as the layers have been laid over each other. */
struct place {
	struct place *parent;   /* borrowed; NULL for the root */
	struct place *next;     /* borrowed: in the same directory, in the order of the names */
	struct place *children; /* borrowed: the first of the directories in it */
	uint32_t layer;         /* the topmost that describes it, and which of its entries does, */
	uint32_t entry;         /* counted from 1; 0: nobody has */
	bool implied;           /* the topmost layer that has it does not describe it */
	bool chosen;            /* for the parents image */
	uint8_t len;
	char name[];
};

/* Where two trees meet: what a directory of the layer in hand is in the whole image. */
struct meeting {
	struct place *place;     /* borrowed */
	const struct node *node; /* borrowed */
};

struct merge {
	struct arena arena; /* the places, those that were taken away again too */
	size_t nplaces;
	struct place *root; /* borrowed from the arena */
	uint32_t layer;     /* in hand */
	/* The layer's directories, parents first; those from `met` on have not been gone through.
	 */
	struct meeting *queue; /* owned */
	size_t met, queued;
};

static int no_memory(struct err *e)
{
	return err_errno(e, -ENOMEM, "%s", of_image);
}

/* --- laying a layer over those below --- */

static int place_new(struct merge *m, struct place *parent, const struct name *name,
		     struct place **at, struct err *e)
{
	struct place *p;

	if (m->nplaces >= LIMIT_ENTRIES)
		return err_set(e, -EFBIG, "%s: more than %u", of_image, LIMIT_ENTRIES);
	p = arena_alloc(&m->arena, sizeof(*p) + name->len);
	if (!p)
		return no_memory(e);
	m->nplaces++;
	memcpy(p->name, name->text, name->len);
	p->len = name->len;
	p->parent = parent;
	p->next = *at;
	*at = p;
	return 0;
}

/* The order of erofs_tree_finish(): both lists are gone through side by side. */
static int place_cmp(const struct place *p, const struct name *name)
{
	int r = memcmp(p->name, name->text, p->len < name->len ? p->len : name->len);

	return r ? r : (int)p->len - (int)name->len;
}

/* The layer in hand has a directory here. */
static void meet(struct merge *m, struct place *p, const struct name *name)
{
	const struct node *node = name->node;

	if (name->gone)
		p->entry = 0;
	if (name->hides)
		p->children = NULL;
	p->implied = node->entry == 0;
	if (node->entry) {
		p->layer = m->layer;
		p->entry = node->entry;
	}
	m->queue[m->queued++] = (struct meeting){.place = p, .node = node};
}

static int merge_names(struct merge *m, struct place *parent, const struct dir *dir, struct err *e)
{
	struct place **at = &parent->children;

	for (size_t i = 0; i < dir->n; i++) {
		const struct name *name = dir->sorted[i];
		bool there;
		int r = 0;

		if (name_is_dot(name))
			continue;
		while (*at && place_cmp(*at, name) < 0)
			at = &(*at)->next;
		there = *at && place_cmp(*at, name) == 0;
		if (node_is_dir(name->node)) {
			if (!there)
				r = place_new(m, parent, name, at, e);
			if (r < 0)
				return r;
			meet(m, *at, name);
		} else if (there) {
			/* A whiteout, or something else in its place. */
			*at = (*at)->next;
		}
	}
	return 0;
}

static int merge_tree(struct merge *m, const struct erofs_tree *t, struct err *e)
{
	int r = 0;

	m->met = m->queued = 0;
	m->queue = calloc(t->n, sizeof(*m->queue));
	if (!m->queue)
		return no_memory(e);
	meet(m, m->root, t->root);
	while (r == 0 && m->met < m->queued) {
		const struct meeting *at = &m->queue[m->met++];

		r = merge_names(m, at->place, &at->node->dir, e);
	}
	free(m->queue);
	m->queue = NULL;
	return r;
}

static int merge_layer(struct merge *m, const struct index *ix, struct err *e)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	char what[DIGEST_TEXT + 8] = "layer ";
	int r;

	digest_text(&ix->diff_id, what + strlen(what));
	r = erofs_tree_of_index(ix, what, &t, e);
	return r < 0 ? r : merge_tree(m, t, e);
}

static int merge_all(struct merge *m, const struct index *layers, uint32_t n, struct err *e)
{
	static const struct name root = {.len = 0};
	int r;

	r = place_new(m, NULL, &root, &m->root, e);
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		m->layer = i;
		r = merge_layer(m, &layers[i], e);
	}
	return r;
}

/* --- what is to be put right --- */

/* Any order in which everything is met once; no recursion, however deep it goes. */
static struct place *place_after(struct place *p)
{
	if (p->children)
		return p->children;
	while (p && !p->next)
		p = p->parent;
	return p ? p->next : NULL;
}

/* Where an entry is, as one number that sorts by layer, then by place in it. */
static uint64_t entry_at(uint32_t layer, uint64_t entry)
{
	return (uint64_t)layer << 32 | entry;
}

static int choose(struct place *p, struct buf *chosen)
{
	int r = 0;

	for (; r == 0 && p && !p->chosen; p = p->parent) {
		uint64_t at = entry_at(p->layer, p->entry);

		p->chosen = true;
		if (p->entry)
			r = buf_put(chosen, &at, sizeof(at));
	}
	return r;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int choose_all(const struct merge *m, struct buf *chosen, struct err *e)
{
	for (struct place *p = m->root; p; p = place_after(p))
		if (p->implied && p->entry && choose(p, chosen) < 0)
			return no_memory(e);
	if (chosen->len)
		qsort(chosen->data, chosen->len / sizeof(uint64_t), sizeof(uint64_t), by_value);
	return 0;
}

/* Copies those of one layer's entries that are next in the list. */
static int copy_layer(const struct index *ix, uint32_t layer, const uint64_t **next,
		      const uint64_t *end, struct buf *toc, struct err *e)
{
	_cleanup_(toc_reader_freep) struct toc_reader *reader = NULL;
	struct entry en;
	int r;

	if (*next == end || **next >> 32 != layer)
		return 0;
	r = toc_reader_new(ix->toc, ix->toc_len, ix->nentries, ix->tar_size, &reader);
	for (uint64_t i = 1; r == 0 && *next < end && **next >> 32 == layer; i++) {
		r = toc_next(reader, &en, e);
		if (r <= 0)
			return r < 0 ? r : err_set(e, -EBADMSG, "%s: an entry is gone", of_image);
		r = 0;
		if (**next == entry_at(layer, i)) {
			r = toc_put(toc, &en);
			++*next;
		}
	}
	return r < 0 ? err_errno(e, r, "%s", of_image) : 0;
}

static int copy_all(const struct index *layers, uint32_t n, const struct buf *chosen,
		    struct buf *toc, struct err *e)
{
	const uint64_t *next = (const uint64_t *)chosen->data;
	const uint64_t *end;
	int r = 0;

	if (chosen->len == 0)
		return 0;
	end = next + chosen->len / sizeof(*next);
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = copy_layer(&layers[i], i, &next, end, toc, e);
	return r;
}

int parents_find(const struct index *layers, uint32_t n, struct buf *toc, uint64_t *ret_nentries,
		 struct err *e)
{
	_cleanup_buf_ struct buf chosen = {.max = LIMIT_ENTRIES * sizeof(uint64_t)};
	struct merge m = {.root = NULL};
	int r;

	r = merge_all(&m, layers, n, e);
	if (r == 0)
		r = choose_all(&m, &chosen, e);
	arena_free(&m.arena);
	if (r == 0)
		r = copy_all(layers, n, &chosen, toc, e);
	if (r == 0)
		*ret_nentries = chosen.len / sizeof(uint64_t);
	return r;
}

/* --- the image --- */

int parents_write(const struct buf *toc, uint64_t nentries, const struct digest *of, int fd,
		  struct err *e)
{
	const struct index ix = {
		.diff_id = *of,
		.nentries = nentries,
		.toc = toc->data,
		.toc_len = toc->len,
	};

	return erofs_image_write_alone(&ix, of_image, fd, e);
}

int parents_check(int fd, const struct digest *of, struct err *e)
{
	struct extents x;
	bool ours;
	int r;

	r = extents_load(fd, &x, e);
	if (r < 0)
		return err_wrap(e, r, "%s", of_image);
	ours = digest_equal(&x.diff_id, of) && x.tar_size == 0;
	extents_free(&x);
	return ours ? 0 : err_set(e, -EBADMSG, "%s are another's", of_image);
}
