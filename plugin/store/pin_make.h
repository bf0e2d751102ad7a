/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PIN_MAKE_H
#define PLUGIN_STORE_PIN_MAKE_H

#include "plugin/store/pins.h"
#include "plugin/store/record.h"

struct engine;
struct err;
struct index;

/*
 * Which bytes of an image its paths are. A path names a file or a whole directory; symbolic links
 * are not followed, hard links are. For a file only the topmost layer that has it counts, for a
 * directory all do. Rounded out to whole spans.
 */

/*
 * The pin of @rec for @paths (none: all of it), taken from the indexes of its layers. -ENOENT
 * names a path that is not there. Tasks only. @ret is the caller's to pin_free().
 */
int pin_make(struct engine *en, const struct record *rec, const char *name,
	     const struct strv *paths, struct pin *ret, struct err *e);

/* "/usr//lib/" → "usr/lib". -EINVAL for "..", and for what names the image's root. */
int pin_path(const char *text, char out[LIMIT_PATH]);

/*
 * The ranges of one layer. paths[i] that are done[i] are not looked for; what is found is set in
 * found[i], and in done[i] when it was no directory. @ret_v is the caller's to free.
 */
int pin_ranges(const struct index *ix, const struct strv *paths, bool *found, bool *done,
	       struct pin_range **ret_v, size_t *ret_n, struct err *e);

#endif
