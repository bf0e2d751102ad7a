/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_WARD_H
#define PLUGIN_WARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/base/digest.h"
#include "oci/base/limits.h"
#include "plugin/fault/slots.h"
#include "plugin/keep.h"

/*
 * What guardian and keeper hold, in memory that only they share. Their descriptors are in one
 * table (CLONE_FILES), so a number written here stays valid for the next keeper. The engine never
 * sees this memory.
 *
 * An entry's state is written last when it becomes valid and first when it goes: a keeper that was
 * killed half-way leaves a BUSY entry, and the next one undoes it.
 */
#define WARD_VERSION  10
#define WARD_ATTACHED 1024 /* root file systems at once on one host */
#define WARD_OTHERS   8    /* superblocks of one layer that earlier tarnds left */
#define WARD_FETCHERS 320  /* the pool and one-shot fetchers of pulls */

enum ward_state { WARD_FREE = 0, WARD_BUSY, WARD_LIVE };

struct ward_other {
	uint64_t number; /* /sys/class/bdi/erofs-<number> */
	uint64_t dev;
};

struct ward_layer {
	_Atomic uint32_t state; /* enum ward_state */
	uint32_t users;         /* live attachments that have it as a lower */
	struct digest diff_id, scope;
	int32_t fd_fill;  /* O_RDWR on the tar, opened before the mark */
	int32_t fd_image; /* -1: others use it, and it could not be mounted (broker_layer_lost) */
	int32_t fd_mount; /* detached EROFS mount; -1: none, and the tar is still in use */
	uint64_t tar_dev, tar_ino, fs_dev;
	uint32_t marked;  /* content mark on */
	uint32_t fs_mask; /* KEEP_MARK_* on the superblock */
	uint32_t shared;  /* others have the tar open, too: nothing in it is provably idle */
	uint32_t nothers; /* of these, those that are known: others.h */
	struct ward_other other[WARD_OTHERS];
};

struct ward_attached {
	_Atomic uint32_t state;
	int32_t watch; /* inotify watch on the overlay's root: says when it is unmounted */
	char id[LIMIT_ID];
	struct digest image;
	uint32_t kind;
	int32_t pid;
	uint32_t nlayers;
	uint16_t layer[LIMIT_LAYERS]; /* indexes into layers[] */
};

struct ward_fetcher {
	int32_t pid; /* 0: free */
	int32_t pidfd;
	uint32_t pooled;
};

struct ward {
	uint32_t version; /* WARD_VERSION: a successor with another one cannot take over */
	/* made once, before the first keeper */
	int32_t fd_lock;             /* store/lock, flock()ed */
	int32_t fd_store;            /* the store's directory */
	int32_t fd_listen;           /* control socket */
	int32_t fd_linger;           /* store/guardian.sock: where a successor asks for all this */
	int32_t fd_content, fd_exec; /* fanotify groups */
	int32_t fd_inotify;
	int32_t fd_keep, fd_engine; /* the two ends of the request socket */
	int32_t fd_slots, fd_ward;  /* the memory itself, for a successor */
	int32_t fd_successor;       /* a tarnd that waits for us to stop; -1: none */
	uid_t engine_uid, fetch_uid;
	gid_t engine_gid, fetch_gid;
	struct settings settings; /* current ones; the engine is shown a copy in its slots */

	/* the keeper's children */
	_Atomic int32_t guardian_pid, keeper_pid, anchor_pid;
	int32_t anchor_pidfd, keeper_pidfd, guardian_pidfd; /* -1: none */
	uint64_t keeper_starts, anchor_starts;
	uint32_t looked;               /* for layers that an earlier tarnd died over */
	_Atomic uint32_t orphan;       /* nobody who started this tarnd knows its guardian */
	_Atomic uint32_t stopping;     /* SIGTERM came, or a successor */
	_Atomic uint32_t reread;       /* SIGHUP came */
	_Atomic uint32_t ready;        /* see ward_ready() */
	_Atomic uint32_t behind;       /* systemd may not have all it should keep: fdstore.c */
	_Atomic int32_t keeper_result; /* KEEPER_* once a keeper ends on purpose, else -1 */
	uint32_t pooling;              /* the engine has said hello: its pool is to be full */
	struct ward_fetcher fetcher[WARD_FETCHERS];
	struct ward_layer layer[LIMIT_MOUNTED];
	struct ward_attached attached[WARD_ATTACHED];
};

/* What every process of tarnd is born with; plain pointers, inherited by fork. */
struct birth {
	struct ward *ward; /* guardian and keeper only; NULL elsewhere */
	struct slots *slots;
	const char *store; /* path, for messages */
	const char *socket;
	const char *config;   /* settings file or NULL */
	int verbose;          /* -v less -q: as settings_read() wants it */
	uint32_t descriptors; /* that a process may have open */
};

/*
 * guardian and keeper: has an engine of this tarnd ever come up? Once it has, none that was taken
 * over can say that it had not, which would make them give up instead of starting the next.
 */
bool ward_ready(const struct birth *b);

/* How a keeper ends on purpose (keeper_result). */
#define KEEPER_STOPPED 0  /* nothing is mounted: the guardian may go too */
#define KEEPER_STAY    10 /* told to stop, but containers still use layers */

/*
 * Closes a recorded descriptor. It is taken off the record first: a number that is recorded and
 * closed would be somebody else's soon.
 */
void ward_close(int32_t *fd);

/* Calls @fn for every descriptor that a ward records (-1 included). */
void ward_each_fd(struct ward *w, void (*fn)(void *ctx, int32_t *fd), void *ctx);

/* Sets the layers' users from the root file systems that are live. */
void ward_count_users(struct ward *w);

/*
 * Memory that is in no core file: logins for registries are in the slots. (Engine and fetchers
 * leave no core at all; see isolate.c.)
 */
void ward_no_core(void *mem, size_t size);

/* Maps what an earlier tarnd left. -EPROTO: it was one of another version. */
int ward_map(int fd_ward, int fd_slots, struct ward **ret_ward, struct slots **ret_slots);
/* NULL-safe. */
void ward_unmap(struct ward *w, struct slots *s);

#endif
