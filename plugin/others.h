/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_OTHERS_H
#define PLUGIN_OTHERS_H

#include <stdbool.h>
#include <stdint.h>

#include "plugin/ward.h"

struct err;

/*
 * Superblocks over a layer's tar that nobody holds but the containers which read through them: what
 * is left when every process of tarnd is killed at once. The next tarnd makes one of its own beside
 * them, and must know of them: what is idle in its own may be in use in theirs (law 8).
 *
 * store/mounted/<diff_id>[.<scope>] has a line "<boot> <number> <device>" for each superblock that
 * was made, until none of them is left. The number is of /sys/class/bdi/erofs-<number>, which the
 * kernel gives once between two starts of the machine. Keeper and guardian only.
 */

/*
 * A superblock of @l was made: @mount_fd. It must be on the record before anybody reads through it;
 * a failure is to be taken as one of the mount.
 */
int others_note(int store, const struct ward_layer *l, int mount_fd, struct err *e);
/* None is left, ours included. */
void others_forget(int store, const struct ward_layer *l);

/*
 * Somebody else has the tar of @l open: fills l->other with the superblocks that live. None: who it
 * is cannot be told.
 */
void others_look(int store, struct ward_layer *l);
/* Do any that are known live on? Once none does, l->shared is taken back. */
bool others_live(struct ward_layer *l);
/* Is there any layer that others_live() says yes of? */
bool others_any(struct ward *w);

/*
 * Calls @fn for every layer of which a superblock of an earlier tarnd lives; a record of which none
 * does is removed. Returns how many.
 */
typedef void others_fn(void *ctx, const struct digest *diff_id, const struct digest *scope);
unsigned others_each(int store, others_fn *fn, void *ctx);

#endif
