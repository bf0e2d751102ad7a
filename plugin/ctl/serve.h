/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_SERVE_H
#define PLUGIN_CTL_SERVE_H

#include <stdint.h>

#include "oci/base/limits.h"
#include "plugin/ctl/proto.h"

struct err;

/* Between server.c, which has the connections, and serve.c, which answers on one of them. */

struct task {
	struct ctl_task t; /* what the verb sees; sock is the server's */
	uint8_t request[LIMIT_CTL_MESSAGE];
};

/* Reads the request, runs its verb and sends the answer. Blocks; the connection's own thread. */
void task_serve(struct task *task);

/* The last message: why there is no answer. */
void task_error(const struct ctl_task *t, const struct err *e);

#endif
