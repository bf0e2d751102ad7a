/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CTL_TARGET_H
#define PLUGIN_CTL_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/limits.h"
#include "plugin/store/record.h"

struct ctl_task;
struct engine;
struct err;
struct json_gen;

/* What verbs look at: layers by their records, and what of them is mounted. Tasks only. */

/* A layer as the store has it: the same diff_id can be there proved and, of some image, unproven.
 */
struct place {
	struct digest diff_id, scope;
	uint64_t size;                /* bytes of the tar */
	const struct record_layer *l; /* borrowed from the records; NULL: no image names it */
	/* of the mounted layer; zero when it is not mounted */
	bool mounted, complete, evicting, quarantined;
	char *warning;  /* owned; NULL: there is none */
	uint32_t users; /* containers and mounts that are attached to it */
};

struct places {
	struct records records; /* owned */
	struct place *v;        /* owned */
	size_t n;
};

void places_free(struct places *ps);
#define _cleanup_places_ __attribute__((cleanup(places_free)))

/* Every layer that an image names or that is mounted. */
int places_all(struct engine *en, struct places *ret, struct err *e);
/* The layers of one image. -ENOENT words it. */
int places_of_image(struct engine *en, const char *image, struct places *ret, struct err *e);
/* An image or a layer: IMAGE|LAYER. */
int places_find(struct engine *en, const char *what, struct places *ret, struct err *e);

/* "lazy", "complete", "evicting", "unproven" or "quarantined". Asks the keeper. */
const char *place_state(struct engine *en, const struct place *p);

/* A row for each, as the value of @member unless that is NULL (status, layers). */
int places_send(struct ctl_task *t, const struct places *ps, const char *member, struct err *e);

/* An argument that must be there; NULL and words (CTL_USAGE) when it is not. */
const char *arg_str(const struct ctl_task *t, const char *name, struct err *e);

#endif
