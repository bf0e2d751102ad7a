/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_NOTIFY_H
#define PLUGIN_NOTIFY_H

/*
 * Tells systemd about the service's state ("READY=1"), by the protocol of sd_notify(3). Without
 * NOTIFY_SOCKET in the environment nothing happens.
 */
void notify_systemd(const char *state);

#endif
