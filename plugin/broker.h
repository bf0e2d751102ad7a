/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_BROKER_H
#define PLUGIN_BROKER_H

#include "plugin/ward.h"

struct err;
struct loop;

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
 * @done is then called on the main thread's @loop with KEEPER_STOPPED or KEEPER_STAY. Until then
 * the broker may be waiting for what the engine would have answered.
 */
void broker_finish(struct broker *b, struct loop *loop, int (*done)(void *ctx, int result),
		   void *ctx);
/*
 * From the main thread: @fn runs on its @loop, at a time when the broker's thread is waiting for it
 * to end and holds no lock of the C library.
 */
void broker_stand_still(struct broker *b, struct loop *loop, int (*fn)(void *ctx), void *ctx);

#endif
