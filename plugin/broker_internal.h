/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_BROKER_INTERNAL_H
#define PLUGIN_BROKER_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "oci/base/err.h"
#include "plugin/loop.h"
#include "plugin/ward.h"

/* Between the parts of the broker: broker.c and broker_*.c. */

struct broker;

struct fetcher_watch {
	struct broker *broker;        /* borrowed */
	struct ward_fetcher *fetcher; /* borrowed */
	struct loop_io *io;           /* owned */
};

struct broker {
	struct birth birth;
	struct ward *ward; /* shared memory */
	struct loop *loop; /* owned; run by `thread`, which alone touches the ward's tables */
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
/* Takes one request from the engine's socket, carries it out and answers it; @ctx is the broker. */
void broker_request(void *ctx, uint32_t events);

/* --- the table of permitted requests (broker.c): each returns its result, words in a->err --- */

/* broker_files.c */
int broker_file_open(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_file_create(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_file_publish(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_file_drop(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_layer_drop(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_list(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_layout_open(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_container_drop(struct broker *b, const struct keep_request *rq, struct answer *a);
/* broker_fetchers.c */
int broker_fetcher(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_fetcher_gone(struct broker *b, const struct keep_request *rq, struct answer *a);
/* broker_layers.c */
int broker_layer_mount(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_layer_umount(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_mark(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_exec_mark(struct broker *b, const struct keep_request *rq, struct answer *a);
int broker_lease(struct broker *b, const struct keep_request *rq, struct answer *a);
/* broker_attach.c */
int broker_attach(struct broker *b, const struct keep_request *rq, struct answer *a);

/* --- fetchers --- */

/* One that an earlier keeper started is watched from here on. */
int broker_fetcher_watch(struct broker *b, struct ward_fetcher *f);
/* Tells the engine of fetchers until the pool is full. */
void broker_fetchers_begin(struct broker *b);
/* The same for an earlier keeper's engine: that keeper may not have lived to replace what died. */
void broker_fetchers_resume(struct broker *b);
/* Kills all of them. They leave the table when their ends are seen. */
void broker_fetchers_end(struct broker *b);

/* --- layers --- */

/* The one that is mounted, or NULL. */
struct ward_layer *broker_layer(struct broker *b, const struct digest *diff_id,
				const struct digest *scope);
int broker_describe_layer(struct broker *b, const struct ward_layer *l, struct answer *a);
/* Closes what is recorded of it, also by systemd, and frees the entry. */
void broker_layer_reset(struct ward *w, struct ward_layer *l);
/* Marks and mounts one that is not mounted. */
int broker_layer_new(struct broker *b, const struct keep_layer *rq, struct ward_layer **ret,
		     struct err *e);
/*
 * The same for one that others use (others.h), which are to get EIO, and no zeros, whatever comes:
 * *ret is set as soon as its tar is marked, also where mounting it has failed. It is live then, so
 * that a stop leaves somebody behind for it, and has no image until KEEP_LAYER_MOUNT succeeds.
 */
int broker_layer_lost(struct broker *b, const struct keep_layer *rq, struct ward_layer **ret,
		      struct err *e);
/* Back to that state, so that its image can be made anew. False: somebody uses our mount of it. */
bool broker_layer_let_go(struct broker *b, struct ward_layer *l);
/*
 * Unmounts it. 0, or -EBUSY while somebody still uses the file system: then it stays marked and
 * ours. -ETXTBSY: only others do, for how long is theirs to say, and everything stays as it is.
 */
int broker_layer_take_down(struct broker *b, struct ward_layer *l);

/* --- root file systems --- */

void broker_describe_attached(struct broker *b, const struct ward_attached *at, struct answer *a);
/* Overlays that are gone, but whose events were not looked at yet, are noticed now. */
void broker_drain_inotify(struct broker *b);
/* The overlay of the attachment with inotify watch @watch is gone. */
void broker_detached(struct broker *b, int watch);

/* --- after a keeper that was killed (broker_recover.c) --- */

/* Undoes BUSY entries, and closes descriptors nobody recorded. */
void broker_recover(struct broker *b);
/*
 * From the broker's thread: root file systems that went while nobody looked, for a keeper may be
 * killed between reading that one is gone and acting on it.
 */
void broker_recover_detached(struct broker *b);

/* --- after all of a tarnd was killed (broker_lost.c) --- */

/*
 * From the broker's thread, before any engine is told of layers: those that containers still use
 * are marked and mounted again, once in the life of a ward. Those that could not be mounted are
 * kept until nobody uses them.
 */
void broker_find_lost(struct broker *b);

#endif
