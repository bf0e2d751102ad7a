/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FDSTORE_H
#define PLUGIN_FDSTORE_H

#include "plugin/ward.h"

struct err;

/*
 * The second belt of law 2: under systemd what the guardian holds is also in the file descriptor
 * store of the service (systemd.service(5), FileDescriptorStoreMax=). Were every process of tarnd
 * killed in the same instant, the groups live on there, readers wait, and the next tarnd is born
 * with all of it.
 *
 * Each descriptor has the name of its place in the ward: "ward", "slots", "content", "exec",
 * "inotify", and of the layer in layer[12] "layer-12-fill", "layer-12-image", "layer-12-mount".
 * Lock and sockets are not there: whoever has them serves. A layer's are stored before anybody can
 * read through it and taken out before they are closed; so the store may lack some only of a layer
 * that nobody uses, or that nobody was given yet.
 *
 * Guardian and keeper call these; without systemd they do nothing. What fails is logged and no
 * more: the guardian has it all.
 */

/* What this process was born with. */
struct fdstore {
	unsigned n;
	struct fdstore_kept {
		char *name; /* owned */
		int fd;     /* owned; -1: taken over */
		bool placed;
	} * kept;
	bool ours; /* it is of the ward that this tarnd goes by */
};

#define FDSTORE_FIRST 3 /* SD_LISTEN_FDS_START */

/*
 * Takes LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out of the environment, and what they speak of
 * into @f: nothing, when that is for another process or makes no sense.
 */
void fdstore_receive(struct fdstore *f);
/* Closes what was not taken over. */
void fdstore_done(struct fdstore *f);

/*
 * The ward and all that it records, from the store, for a tarnd that has locked the store of
 * layers. -ENOENT: nothing was kept. -EPROTO: by a tarnd of another version. -ENODATA: something is
 * missing.
 */
int fdstore_adopt(struct fdstore *f, struct ward **ret_ward, struct slots **ret_slots,
		  struct err *e);

/* Makes the store's content that of @w, before anybody is told that this tarnd is ready. */
void fdstore_keep(struct fdstore *f, struct ward *w);
/* A layer is mounted, and goes to nobody before this returns. */
void fdstore_layer(struct ward *w, struct ward_layer *l);
/* Its mount is to go, or all of it. */
void fdstore_mount_gone(struct ward *w, const struct ward_layer *l);
void fdstore_layer_gone(struct ward *w, struct ward_layer *l);
/* Nothing is in use: all of it goes. */
void fdstore_clear(struct ward *w);

#endif
