/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/collect.h"

#include <errno.h>

#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/claim.h"
#include "plugin/store/kept.h"
#include "plugin/store/load.h"
#include "plugin/store/record.h"

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
