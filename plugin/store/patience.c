/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/patience.h"

#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"
#include "plugin/store/space.h"

/* What failed is wanted again after so long, and longer the longer nothing comes. */
#define AGAIN_MIN_MS 400
#define AGAIN_MAX_MS 10000
/* With the store full and nothing gained for so long, nothing will be. */
#define FULL_MS 4000

void patience_begin(struct patience *p, const struct engine *en, const struct layer *l)
{
	*p = (struct patience){.en = en, .l = l, .since_ms = clock_ms(), .delay_ms = AGAIN_MIN_MS};
}

static void note_error(struct patience *p)
{
	p->why[0] = '\0';
	for (uint32_t i = 0; i < p->l->nsources; i++) {
		const struct layer_source *s = &p->l->sources[i];

		if (s->last_error[0] && (s->fails || s->bad))
			snprintf(p->why, sizeof(p->why), "%.*s", (int)sizeof(s->last_error) - 1,
				 s->last_error);
	}
	if (!p->why[0] && p->l->sync_failures)
		snprintf(p->why, sizeof(p->why), "the store's disk does not keep it");
	if (p->l->nsources == 0)
		snprintf(p->why, sizeof(p->why), "no source of it is known");
}

bool patience_want(struct patience *p, bool busy)
{
	uint64_t now = clock_ms();

	note_error(p);
	p->closed = space_closed(p->en->space, p->l->index.span_size) < 0;
	if (busy || now < p->again_ms)
		return false;
	p->again_ms = now + p->delay_ms;
	p->delay_ms = p->delay_ms * 2 > AGAIN_MAX_MS ? AGAIN_MAX_MS : p->delay_ms * 2;
	return true;
}

/*
 * No room for one more span. Asking for it raises no event.
 * #syscalls engine: fstatfs
 */
static bool store_full(const struct layer *l)
{
	struct statvfs st;

	return fstatvfs(l->fd_fill, &st) == 0 &&
	       (uint64_t)st.f_bavail * st.f_frsize < l->index.span_size;
}

int patience_left(struct patience *p, uint64_t there, bool working, const char *what, struct err *e)
{
	uint64_t now = clock_ms();

	if (there > p->most || working) {
		p->since_ms = now;
		p->delay_ms = AGAIN_MIN_MS;
	}
	if (there > p->most)
		p->most = there;
	if (now - p->since_ms > FULL_MS && store_full(p->l))
		return err_errno(e, -ENOSPC, "%s", what);
	if (now - p->since_ms > FULL_MS && p->closed)
		return err_set(e, -EDQUOT, "%s: no room: cache.max (tarn.conf) is nearly reached",
			       what);
	/* As long as two readers, one after the other, would have waited. */
	if (now - p->since_ms > 2 * settings_patience_ms(&p->en->slots->settings))
		return err_set(e, -ETIMEDOUT, "%s: cannot be brought here: %s", what,
			       p->why[0] ? p->why : "nothing happens");
	return 0;
}
