/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FILTER_H
#define PLUGIN_FILTER_H

struct err;

/*
 * System call filters, made from the "#syscalls" notes beside the functions that need the calls
 * (syscalls.awk has their form). What is not noted ends the process. Each holds for the calling
 * thread, the threads it starts and its children; none can be taken off; no_new_privs must be set.
 *
 * An anchor may do what its engines may, start one and wait for it; the engine then narrows that.
 */
int filter_anchor(struct err *e);
int filter_engine(struct err *e);
int filter_fetcher(struct err *e);
int filter_parser(struct err *e);

#endif
