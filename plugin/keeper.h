/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_KEEPER_H
#define PLUGIN_KEEPER_H

#include "plugin/ward.h"

/*
 * The keeper: root with few capabilities. Its main thread supervises (deadlines, anchor,
 * guardian, stop, settings) and never waits for anything our own marks could hold up; its second
 * thread is the broker. Returns an exit status; ward->keeper_result says whether it ended on
 * purpose.
 */
int keeper_main(const struct birth *b);

#endif
