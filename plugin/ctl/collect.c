/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/collect.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/claim.h"
#include "plugin/store/kept.h"
#include "plugin/store/load.h"
#include "plugin/store/record.h"

int collect_list(struct engine *en, enum keep_kind kind, struct keep_found **ret, size_t *ret_n,
		 struct err *e)
{
	struct keep_request req = {.op = KEEP_LIST, .list.kind = kind};
	_cleanup_free_ struct keep_found *list = NULL;
	_cleanup_fd_ int fd = -1;
	struct keep_reply rep;
	struct stat st;
	size_t n;
	int r = keep_call(en->keep, &req, &rep, &fd, 1, e);

	if (r < 0)
		return err_wrap(e, r, "listing the store");
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size % (off_t)sizeof(*list) != 0)
		return err_set(e, -EPROTO, "listing the store: the keeper sent no list");
	n = (size_t)st.st_size / sizeof(*list);
	list = calloc(n ? n : 1, sizeof(*list));
	if (!list)
		return err_errno(e, -ENOMEM, "listing the store");
	r = fd_pread_full(fd, list, n * sizeof(*list), 0);
	if (r < 0)
		return err_errno(e, r, "listing the store");
	*ret = take_ptr(list);
	*ret_n = n;
	return 0;
}

static bool is_named(const struct records *rs, const struct digest *diff_id,
		     const struct digest *scope)
{
	for (size_t i = 0; i < rs->n; i++) {
		for (uint32_t k = 0; k < rs->v[i]->nlayers; k++) {
			const struct record_layer *l = &rs->v[i]->layers[k];
			struct digest s = record_scope(rs->v[i], l);

			if (digest_equal(&l->diff_id, diff_id) && digest_equal(&s, scope))
				return true;
		}
	}
	return false;
}

struct look {
	struct engine *en;
	const struct digest *diff_id, *scope;
};

static int is_mounted(void *ctx)
{
	const struct look *k = ctx;

	return engine_layer(k->en, k->diff_id, k->scope) != NULL;
}

int collect_layer(struct engine *en, const struct records *rs, const struct digest *diff_id,
		  const struct digest *scope, uint64_t *ret_freed, struct err *e)
{
	struct look k = {.en = en, .diff_id = diff_id, .scope = scope};
	_cleanup_claim_ struct claim making = CLAIM_INIT;
	_cleanup_claim_ struct claim mounting = CLAIM_INIT;
	uint64_t resident;
	int r;

	if (is_named(rs, diff_id, scope))
		return 0;
	/* Whoever makes, mounts or evicts it right now has a use for it. */
	if (claim_try(&making, CLAIM_INGEST, diff_id) < 0 ||
	    claim_try(&mounting, CLAIM_MOUNT, diff_id) < 0 || loop_call(en->loop, is_mounted, &k))
		return 0;
	resident = layer_resident(en, diff_id, scope);
	r = layer_drop(en, diff_id, scope, e);
	if (r == -EBUSY)
		return 0;
	if (r < 0)
		return r;
	*ret_freed = resident;
	return 1;
}
