/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/alone.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "plugin/engine.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/mount/sign.h"

#define TICK_MS 250

static bool any_mounted(const struct slots *s)
{
	uint32_t n = atomic_load(&s->nmounted);

	for (uint32_t i = 0; i < n && i < LIMIT_MOUNTED; i++)
		if (mount_there(s->mounted[i].dev, s->mounted[i].sign))
			return true;
	return false;
}

static void tick(void *ctx)
{
	struct engine *en = ctx;
	struct slots *s = en->slots;

	if (!any_mounted(s)) {
		log_warn("nothing is mounted any more, and keeper and guardian are gone: the end");
		_exit(EXIT_SUCCESS);
	}
	if (!en->ready)
		slots_allow_exec(s, en->group);
	slots_enforce(s, en->group, TICK_MS, s->settings.deadline_ms);
	if (loop_after(en->loop, TICK_MS, tick, en, NULL) < 0)
		_exit(EXIT_FAILURE); /* the anchor makes another */
}

void alone_begin(struct engine *en)
{
	struct slots *s = en->slots;

	en->io_keep = loop_remove_io(en->io_keep);
	atomic_store(&s->guardian_pid, 0);
	atomic_store(&s->keeper_pid, 0);
	/* What the keeper was killed over. */
	slots_deny_again(s, en->group, SLOT_DENYING);
	/* No eviction holds anybody up any more when we never came up. */
	for (uint32_t i = 0; !en->ready && i < slots_count(s); i++)
		atomic_store(&s->s[i].frozen, 0);
	log_error(
		"keeper and guardian are gone: %s; stop the containers, see that process %d ends, "
		"and start tarnd again",
		en->ready ? "mounted layers are served on, nothing else"
			  : "what is missing cannot be had any more",
		atomic_load(&s->anchor_pid));
	tick(en);
}
