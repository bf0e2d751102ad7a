/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_BUILD_H
#define PLUGIN_STORE_BUILD_H

#include <stdbool.h>

struct digest;
struct engine;
struct err;
struct keep_reply;
struct layer;
struct layer_source;
struct source;

/*
 * A struct layer from what the store has and what the keeper mounted (@msg, an answer to
 * KEEP_LAYER_MOUNT or a KEEP_TELL_LAYER). @fds: fill and image, taken over on success. The result
 * is nobody else's yet. Tasks only.
 *
 * -EBADMSG with *ret_image_bad set: it is the image that was mounted that is of no use, and a new
 * one can be made from the index.
 */
int layer_build(struct engine *en, const struct keep_reply *msg, int fds[2], bool *ret_image_bad,
		struct layer **ret, struct err *e);

/*
 * One way to the bytes of @l, of which only what never changes is looked at: @ret gets the source
 * with its map, and is freed with layer_source_free(). Tasks only.
 */
int layer_source_load(struct engine *en, const struct layer *l, const struct source *from,
		      struct layer_source *ret, struct err *e);
/*
 * Opens the blob of a layout while there is a keeper to do it: an engine that is left alone
 * (alone.h) has none. One that cannot be opened now is tried again when it is wanted, and told of
 * then. Tasks only.
 */
void layer_source_open(struct engine *en, struct layer_source *s);
void layer_source_free(struct layer_source *s); /* what it points to, not @s */

#endif
