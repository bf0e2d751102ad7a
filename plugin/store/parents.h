/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_STORE_PARENTS_H
#define PLUGIN_STORE_PARENTS_H

struct engine;
struct err;
struct record;

/*
 * The parents image of an image (oci/erofs/parents.h) in the store: images/<manifest>.erofs, there
 * when rec->parents says that the image needs one. The keeper puts it on top of the layers. Tasks
 * only.
 */

/*
 * Finds out whether @rec needs one, and makes it or drops what there is; sets rec->parents. Its
 * layers are all known. The caller has no claim on the images.
 */
int parents_make(struct engine *en, struct record *rec, struct err *e);
/* The same, after one that there should be turned out to be of no use. */
int parents_renew(struct engine *en, struct record *rec, struct err *e);
/* Makes one that is needed and is missing, or of an older version. */
int parents_ensure(struct engine *en, struct record *rec, struct err *e);

#endif
