/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_LINGER_H
#define PLUGIN_LINGER_H

#include "plugin/ward.h"

/*
 * What a guardian does after a stop while containers still use layers: holds every descriptor,
 * hands them to the next tarnd that asks (guard_take_over), and ends when the last container that
 * used a layer is gone. Does not return.
 */
void linger(const struct birth *b) __attribute__((noreturn));

#endif
