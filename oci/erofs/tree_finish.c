/* SPDX-License-Identifier: Apache-2.0 */
/* What all the entries come to: the second half of tree.c. */
#include "oci/erofs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/err.h"

/* Bytes, not characters, and unsigned: the kernel searches directories in this order. */
static int name_cmp(const void *a, const void *b)
{
	const struct name *x = *(struct name *const *)a;
	const struct name *y = *(struct name *const *)b;
	int r = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);

	return r ? r : (int)x->len - (int)y->len;
}

static struct name *dot_name(struct erofs_tree *t, struct node *dir, const char *s,
			     struct node *node)
{
	struct name *name = erofs_tree_name_new(t, dir, s, strlen(s));

	if (name)
		name->node = node;
	return name;
}

/* Cuts @dir's array off the tree's and fills it. @at is how much of that is used. */
static int sort_names(struct erofs_tree *t, struct node *node, size_t *at)
{
	struct dir *dir = &node->dir;
	struct name **v = t->sorted + *at;
	struct node *parent = dir->self->dir ? dir->self->dir : node;

	dir->n = 0;
	v[dir->n++] = dot_name(t, node, ".", node);
	v[dir->n++] = dot_name(t, node, "..", parent);
	if (!v[0] || !v[1])
		return -ENOMEM;
	for (struct name *name = dir->names; name; name = name->next_in_dir)
		v[dir->n++] = name;
	qsort(v, dir->n, sizeof(*v), name_cmp);
	dir->sorted = v;
	*at += dir->n;
	return 0;
}

/* A name that only a whiteout gave: overlayfs takes a character device 0:0 for one. */
static int whiteout_make(struct erofs_tree *t, struct name *name)
{
	name->node = arena_alloc(&t->arena, sizeof(*name->node));
	if (!name->node)
		return -ENOMEM;
	name->node->mode = S_IFCHR;
	return 0;
}

/* Counts the links of what is in @dir, and puts what was not met before at the end of the line. */
static int visit_names(struct erofs_tree *t, struct node *dir)
{
	dir->nlink += 2;
	for (size_t i = 0; i < dir->dir.n; i++) {
		struct name *name = dir->dir.sorted[i];

		if (name_is_dot(name))
			continue;
		if (!name->node && whiteout_make(t, name) < 0)
			return -ENOMEM;
		if (node_is_dir(name->node)) {
			dir->nlink++;
			name->node->opaque = name->hides;
			t->nodes[t->n++] = name->node;
		} else if (name->node->nlink++ == 0) {
			t->nodes[t->n++] = name->node;
		}
	}
	return 0;
}

/* Names there are at most in the arrays of all directories, with the two dots of each. */
static size_t names_bound(const struct erofs_tree *t)
{
	return t->names.n + 2 * t->nnodes;
}

int erofs_tree_finish(struct erofs_tree *t, struct err *e)
{
	size_t at = 0;

	/* Each node but the root has a name, and each name one node. */
	t->nodes = calloc(t->names.n + 1, sizeof(*t->nodes));
	t->sorted = calloc(names_bound(t), sizeof(*t->sorted));
	if (!t->nodes || !t->sorted)
		return err_errno(e, -ENOMEM, "%s: cannot build the tree", t->what);
	t->root->node->opaque = t->root->hides;
	t->nodes[t->n++] = t->root->node;
	/* The line grows while we walk it: breadth first, no recursion, however deep the tree is.
	 */
	for (size_t i = 0; i < t->n; i++) {
		if (!node_is_dir(t->nodes[i]))
			continue;
		if (sort_names(t, t->nodes[i], &at) < 0 || visit_names(t, t->nodes[i]) < 0)
			return err_errno(e, -ENOMEM, "%s: cannot build the tree", t->what);
	}
	return 0;
}

const char *erofs_tree_path(const struct name *name, char *out, size_t size)
{
	size_t at = size - 1;

	out[at] = '\0';
	while (name->dir) {
		size_t len = name->len < at ? name->len : at;

		at -= len;
		memcpy(out + at, name->text + name->len - len, len);
		name = name->dir->dir.self;
		if (name->dir && at > 0)
			out[--at] = '/';
	}
	return out + at;
}
