/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_BROKER_INTERNAL_H
#define PLUGIN_BROKER_INTERNAL_H

#include <pthread.h>

#include "oci/base/err.h"
#include "plugin/loop.h"
#include "plugin/ward.h"

/* Between broker.c (requests, fetchers) and broker_mounts.c (layers, attachments). */

struct broker;

struct fetcher_watch {
	struct broker *broker;        /* borrowed */
	struct ward_fetcher *fetcher; /* borrowed */
	struct loop_io *io;           /* owned */
};

struct broker {
	struct birth birth;
	struct ward *ward;  /* shared memory */
	struct loop *loop;  /* owned; run by `thread`, which alone touches the ward's tables */
	pthread_t thread;
	struct loop_io *io_keep, *io_inotify;
	struct fetcher_watch watch[WARD_FETCHERS];
	bool finishing;
};

/* An answer in the making. */
struct answer {
	struct keep_reply rep;
	int fds[KEEP_FDS_MAX]; /* owned; closed once sent */
	int nfds;
	struct err err;
};

int answer_fd(struct answer *a, int fd); /* takes fd; returns 0 */
/* Sends one of the keeper's own messages. */
void broker_tell(struct broker *b, uint32_t op, struct answer *a);

struct ward_layer *broker_layer(struct broker *b, const struct digest *diff_id,
				const struct digest *scope);
int broker_describe_layer(struct broker *b, const struct ward_layer *l, struct answer *a);
void broker_describe_attached(struct broker *b, const struct ward_attached *at,
			      struct answer *a);

int broker_layer_mount(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_layer_umount(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_mark(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_exec_mark(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_lease(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_attach(struct broker *b, const struct keep_request *rq, struct answer *a);

/* Overlays that are gone, but whose events were not looked at yet, are noticed now. */
void broker_drain_inotify(struct broker *b);
/* The overlay of the attachment with inotify watch @watch is gone. */
void broker_detached(struct broker *b, int watch);
/* Undoes BUSY entries of a keeper that was killed, and closes descriptors nobody recorded. */
void broker_recover(struct broker *b);
/*
 * From the broker's thread: root file systems that went while nobody looked, for a keeper may be
 * killed between reading that one is gone and acting on it.
 */
void broker_recover_detached(struct broker *b);
/* Unmounts layers without users; returns how many are left. */
unsigned broker_umount_idle(struct broker *b);

#endif
