/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/verbs.h"

#include <stddef.h>

#include "plugin/ctl/proto.h"

const struct ctl_verb ctl_verbs[] = {
	{"pull", verb_pull},	 {"attach", verb_attach}, {"detach", verb_detach},
	{"evict", verb_evict},	 {"fill", verb_fill},	  {"verify", verb_verify},
	{"status", verb_status}, {"images", verb_images}, {"layers", verb_layers},
	{"pin", verb_pin},	 {"unpin", verb_unpin},	  {"rm", verb_rm},
	{"gc", verb_gc},	 {NULL, NULL},
};
