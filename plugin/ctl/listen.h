/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_LISTEN_H
#define PLUGIN_CTL_LISTEN_H

struct err;

/*
 * The control socket at @path, for root and for @group ("": for root alone); → fd. A socket that
 * an earlier tarnd left there goes. What somebody answers on stays, as does a file that is no
 * socket: -EADDRINUSE, -EEXIST.
 */
int ctl_listen(const char *path, const char *group, struct err *e);

/* Nobody can connect any more to @fd, whoever else has it. */
void ctl_listen_end(int fd);

#endif
