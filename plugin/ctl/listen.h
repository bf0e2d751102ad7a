/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_LISTEN_H
#define PLUGIN_CTL_LISTEN_H

#include <sys/types.h>

struct err;

/* The number of @name, socket.group's; -ENOENT: there is no such group. */
int ctl_group(const char *name, gid_t *ret, struct err *e);

/*
 * The control socket at @path, for root and for @group ("": for root alone); → fd. A socket that
 * an earlier tarnd left there goes. What somebody answers on stays, as does a file that is no
 * socket: -EADDRINUSE, -EEXIST.
 */
int ctl_listen(const char *path, const char *group, struct err *e);

/* Nobody can connect any more to @fd, whoever else has it. */
void ctl_listen_end(int fd);

#endif
