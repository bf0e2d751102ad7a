/* SPDX-License-Identifier: Apache-2.0 */
/* From a table of contents to its tree. */
#include "oci/erofs/tree.h"

#include <errno.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"

static int read_toc(const struct index *ix, struct erofs_tree *t, struct err *e)
{
	_cleanup_(toc_reader_freep) struct toc_reader *toc = NULL;
	struct entry en;
	int r;

	if (ix->nentries > LIMIT_ENTRIES)
		return err_set(e, -EFBIG, "%s: more than %u entries", t->what, LIMIT_ENTRIES);
	r = toc_reader_new(ix->toc, ix->toc_len, ix->nentries, ix->tar_size, &toc);
	if (r < 0)
		return err_errno(e, r, "%s: cannot read the table of contents", t->what);
	while ((r = toc_next(toc, &en, e)) > 0) {
		r = erofs_tree_add(t, &en, e);
		if (r < 0)
			return r;
	}
	return r < 0 ? err_wrap(e, r, "%s", t->what) : 0;
}

int erofs_tree_of_index(const struct index *ix, const char *what, struct erofs_tree **ret,
			struct err *e)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	int r;

	r = erofs_tree_new(what, ix->tar_size, &t);
	if (r < 0)
		return err_errno(e, r, "%s: cannot build the tree", what);
	r = read_toc(ix, t, e);
	if (r == 0)
		r = erofs_tree_finish(t, e);
	if (r == 0)
		*ret = take_ptr(t);
	return r;
}
