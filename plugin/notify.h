/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_NOTIFY_H
#define PLUGIN_NOTIFY_H

/*
 * What systemd is told, by the protocol of sd_notify(3): datagrams of lines to the socket that
 * NOTIFY_SOCKET names. Without it in the environment nothing happens. Nobody waits for ever for a
 * manager that hangs: the first time 5 s, and until it answers again a moment.
 */

/* The service's state ("READY=1"). */
void notify_systemd(const char *state);

/*
 * Lines that a descriptor goes with (borrowed; -1: none). 0, -ENOTCONN when there is nobody to be
 * told, -EAGAIN when he does not listen, or another -errno.
 */
int notify_send(const char *lines, int fd);

/* Waits until he has dealt with all that was sent before. 0, or as above. */
int notify_wait(void);

#endif
