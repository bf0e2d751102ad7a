/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/verbs.h"

#include <stddef.h>

#include "plugin/ctl/gate.h"
#include "plugin/ctl/proto.h"

/* Its layers are in no record until it is done. */
static int gated_pull(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	int r;

	gate_share();
	r = verb_pull(t, done, e);
	gate_share_end();
	return r;
}

const struct ctl_verb ctl_verbs[] = {
	{"pull", gated_pull},    {"attach", verb_attach}, {"detach", verb_detach},
	{"evict", verb_evict},   {"fill", verb_fill},     {"verify", verb_verify},
	{"status", verb_status}, {"images", verb_images}, {"layers", verb_layers},
	{"pin", verb_pin},       {"unpin", verb_unpin},   {"rm", verb_rm},
	{"gc", verb_gc},         {"config", verb_config}, {NULL, NULL},
};
