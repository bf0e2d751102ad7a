/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_INHERIT_H
#define PLUGIN_INHERIT_H

#include "plugin/keep.h"

struct engine;
struct inherited;

/*
 * How an engine comes up: it says HELLO, the keeper tells of the layers and root file systems that
 * are mounted, a task learns of them layer by layer, and then the engine is ready. Loop thread.
 */

/* Says HELLO; en->inherited lives from here until the engine is ready. */
int inherit_start(struct engine *en);
/*
 * One of KEEP_TELL_BEGIN to KEEP_TELL_READY. Takes what it needs of @fds. @in may be NULL: all is
 * known by now, and the keeper was asked a second time.
 */
int inherit_told(struct inherited *in, const struct keep_reply *msg, int *fds);
/* A root file system went before the task knew of it. NULL-safe. */
void inherit_detached(struct inherited *in, const char *id);

#endif
