/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_ALONE_H
#define PLUGIN_ALONE_H

struct engine;

/*
 * Guardian and keeper are gone, and nobody can take over from us: the groups, and so who waits, are
 * this process's and the anchor's alone. What is mounted is served as far as it can be, deadlines
 * are kept, and once nothing is mounted any more the process ends, and the anchor with it, so that
 * the next tarnd finds the store free. Ending sooner would show zeros to readers (law 2).
 *
 * An engine that never came up, for it was started too late to be told its layers, does the same:
 * execs are allowed, for they read nothing by themselves, and reads end in EIO at their deadline.
 */
void alone_begin(struct engine *en);

#endif
