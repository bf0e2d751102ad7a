/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_LINGER_H
#define PLUGIN_LINGER_H

#include <stdbool.h>

#include "plugin/ward.h"

/*
 * What a guardian does after a stop while containers still use layers: holds every descriptor,
 * hands them to the next tarnd that asks (guard_take_over), at once to one that waits as
 * ward->fd_successor, and ends when the last container that used a layer is gone. Does not return.
 */
void linger(const struct birth *b) __attribute__((noreturn));

/* Does anything use a layer? */
bool linger_needed(struct ward *w);

/*
 * keeper of a tarnd that nobody started: answers the call of one that was started. It becomes
 * ward->fd_successor and is asked whether it can wait until this tarnd has stopped. 0 or -errno.
 */
int linger_greet(struct ward *w);
/* What the successor says to that: false, and it is let go, when it has left. */
bool linger_agreed(struct ward *w);

#endif
