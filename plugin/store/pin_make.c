/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/pin_make.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/index/index.h"
#include "plugin/store/ingest.h"

int pin_path(const char *text, char out[LIMIT_PATH])
{
	size_t n = 0;

	while (*text) {
		size_t len = strcspn(text, "/");

		if (len == 2 && strncmp(text, "..", 2) == 0)
			return -EINVAL;
		if (len > 0 && !(len == 1 && *text == '.')) {
			if (n + len + 2 > LIMIT_PATH)
				return -EINVAL;
			if (n > 0)
				out[n++] = '/';
			memcpy(out + n, text, len);
			n += len;
		}
		text += len + (text[len] == '/');
	}
	out[n] = '\0';
	return n > 0 ? 0 : -EINVAL;
}

/* --- one layer --- */

struct search {
	const struct index *ix;
	const struct strv *paths;
	bool *found, *done;
	uint8_t *bits;       /* owned; one a span */
	struct strv targets; /* owned; of hard links that are pinned */
};

static void mark(struct search *s, const struct entry *en)
{
	if (en->type != ENTRY_REG || en->size == 0)
		return;
	for (uint64_t i = en->tar_offset / s->ix->span_size;
	     i <= (en->tar_offset + en->size - 1) / s->ix->span_size; i++)
		s->bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* Is @path the same as @dir, or below it? */
static bool below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static int look_at(struct search *s, const struct entry *en)
{
	bool wanted = false;

	for (size_t i = 0; i < s->paths->n; i++) {
		if (s->done[i] || !below(en->path, s->paths->v[i]))
			continue;
		wanted = true;
		if (en->type != ENTRY_WHITEOUT)
			s->found[i] = true;
	}
	if (!wanted)
		return 0;
	mark(s, en);
	return en->type == ENTRY_HARDLINK ? strv_add(&s->targets, en->target) : 0;
}

/* What hides the same path in the layers below. */
static void settle(struct search *s, const struct entry *en)
{
	for (size_t i = 0; i < s->paths->n; i++)
		if (en->type != ENTRY_DIR && strcmp(en->path, s->paths->v[i]) == 0)
			s->done[i] = true;
}

static void look_at_target(struct search *s, const struct entry *en)
{
	for (size_t i = 0; i < s->targets.n; i++)
		if (strcmp(s->targets.v[i], en->path) == 0)
			mark(s, en);
}

enum pass { PASS_PATHS, PASS_TARGETS, PASS_SETTLE };

static int walk(struct search *s, enum pass pass, struct err *e)
{
	_cleanup_(toc_reader_freep) struct toc_reader *tr = NULL;
	struct entry en;
	int r = toc_reader_new(s->ix->toc, s->ix->toc_len, s->ix->nentries, s->ix->tar_size, &tr);

	if (r < 0)
		return err_errno(e, r, "reading an index");
	while ((r = toc_next(tr, &en, e)) > 0) {
		if (pass == PASS_PATHS)
			r = look_at(s, &en);
		else if (pass == PASS_TARGETS)
			look_at_target(s, &en);
		else
			settle(s, &en);
		if (r < 0)
			return err_errno(e, r, "reading an index");
	}
	return r;
}

static int ranges_of(const struct search *s, struct pin_range **ret_v, size_t *ret_n)
{
	const struct index *ix = s->ix;
	struct pin_range *v = calloc((size_t)ix->nspans / 2 + 1, sizeof(*v));
	size_t n = 0;

	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < ix->nspans; i++) {
		uint64_t off = index_span_start(ix, i);

		if (!(s->bits[i / 8] >> (i % 8) & 1))
			continue;
		if (n > 0 && v[n - 1].end == off)
			n--;
		else
			v[n].off = off;
		v[n++].end = off + index_span_len(ix, i);
	}
	*ret_v = v;
	*ret_n = n;
	return 0;
}

int pin_ranges(const struct index *ix, const struct strv *paths, bool *found, bool *done,
	       struct pin_range **ret_v, size_t *ret_n, struct err *e)
{
	_cleanup_free_ uint8_t *bits = calloc((size_t)ix->nspans / 8 + 1, 1);
	struct search s = {.ix = ix, .paths = paths, .found = found, .done = done, .bits = bits};
	int r = bits ? walk(&s, PASS_PATHS, e) : err_errno(e, -ENOMEM, "reading an index");

	if (r == 0 && s.targets.n > 0)
		r = walk(&s, PASS_TARGETS, e);
	if (r == 0)
		r = walk(&s, PASS_SETTLE, e);
	strv_free(&s.targets);
	if (r < 0)
		return r;
	r = ranges_of(&s, ret_v, ret_n);
	return r < 0 ? err_errno(e, r, "reading an index") : 0;
}

/* --- an image --- */

static int add_whole(const struct record *rec, struct pin *p)
{
	for (uint32_t i = 0; i < rec->nlayers; i++) {
		struct pin_layer *l = &p->layers[p->nlayers++];

		l->diff_id = rec->layers[i].diff_id;
		l->scope = record_scope(rec, &rec->layers[i]);
		l->whole = true;
	}
	return 0;
}

static int add_paths(struct engine *en, const struct record *rec, bool *found, bool *done,
		     struct pin *p, struct err *e)
{
	for (uint32_t i = rec->nlayers; i-- > 0;) {
		struct pin_layer *l = &p->layers[p->nlayers];
		_cleanup_free_ void *bytes = NULL;
		struct index ix;
		int r;

		l->diff_id = rec->layers[i].diff_id;
		l->scope = record_scope(rec, &rec->layers[i]);
		r = layer_index_read(en, &l->diff_id, &l->scope, &ix, &bytes, e);
		if (r == 0)
			r = pin_ranges(&ix, &p->paths, found, done, &l->v, &l->n, e);
		if (r < 0)
			return r;
		if (l->n > 0)
			p->nlayers++;
		else
			free(l->v);
		if (l->n == 0)
			*l = (struct pin_layer){.v = NULL};
	}
	for (size_t i = 0; i < p->paths.n; i++)
		if (!found[i])
			return err_set(e, -ENOENT, "%s is not in the image", p->paths.v[i]);
	return 0;
}

int pin_make(struct engine *en, const struct record *rec, const char *name,
	     const struct strv *paths, struct pin *ret, struct err *e)
{
	_cleanup_free_ bool *found = calloc(paths->n + 1, sizeof(*found));
	_cleanup_free_ bool *done = calloc(paths->n + 1, sizeof(*done));
	_cleanup_pin_ struct pin p = {.image = rec->manifest};
	int r = 0;

	p.name = strdup(name);
	p.layers = calloc(LIMIT_LAYERS, sizeof(*p.layers));
	if (!found || !done || !p.name || !p.layers)
		return err_errno(e, -ENOMEM, "pinning");
	for (size_t i = 0; r == 0 && i < paths->n; i++)
		r = strv_add(&p.paths, paths->v[i]);
	if (r < 0)
		return err_errno(e, r, "pinning");
	r = paths->n ? add_paths(en, rec, found, done, &p, e) : add_whole(rec, &p);
	if (r < 0)
		return r;
	*ret = p;
	p = (struct pin){.name = NULL};
	return 0;
}
