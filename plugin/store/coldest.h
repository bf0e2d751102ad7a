/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_COLDEST_H
#define PLUGIN_STORE_COLDEST_H

#include <stdbool.h>
#include <stdint.h>

struct engine;

/*
 * Evicts what no fault has wanted for longest, of all layers, until @bytes are free or nothing
 * more is idle: spans of mounted layers by their last fault, layers that are not mounted whole, by
 * their last use. Pinned content stays, and nobody is denied. Failures are logged. Tasks only.
 * @cancelled ends it soon.
 */
struct coldest {
	uint64_t freed; /* bytes */
	/* Somebody else is evicting, or tarnd stops: that nothing went does not mean that nothing
	 * can. A moment was waited then. */
	bool disturbed;
};
struct coldest coldest_evict(struct engine *en, uint64_t bytes, bool (*cancelled)(void *ctx),
			     void *ctx);

#endif
