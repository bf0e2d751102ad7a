/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_BROKER_H
#define PLUGIN_BROKER_H

#include "plugin/ward.h"

struct err;

/*
 * The keeper's second thread: carries out the engine's requests (keep.h) one after the other,
 * owns the ward's tables, watches fetchers and overlays. It may wait for the engine (an open
 * under our own FAN_OPEN_PERM mark does); the keeper's main thread never does.
 */
struct broker;

/* Undoes what a killed keeper left half-done, and starts the thread. */
int broker_start(const struct birth *b, struct broker **ret, struct err *e);

/* From the main thread. The engine is told to write everything down and end. */
void broker_stop_engine(struct broker *b);
/*
 * From the main thread, when the engine has ended: ends the fetchers, unmounts what nothing uses.
 * Returns KEEPER_STOPPED or KEEPER_STAY.
 */
int broker_finish(struct broker *b);

#endif
