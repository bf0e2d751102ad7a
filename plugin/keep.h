/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_KEEP_H
#define PLUGIN_KEEP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"

struct err;

/*
 * What the engine (no rights) may ask of the keeper (root): a fixed set of requests over a
 * SOCK_SEQPACKET pair, fixed-size structs, descriptors by SCM_RIGHTS. The keeper checks every
 * argument and refuses what is not permitted in its current state (broker.c has the table).
 * Requests carry no paths inside the store: names are made by the keeper from kinds and digests.
 * Every request may be sent again after the keeper was replaced: repeating one is harmless.
 */
enum keep_op {
	KEEP_HELLO = 1,   /* pid: a new engine's; KEEP_TELL_BEGIN to KEEP_TELL_READY come first */
	KEEP_FILE_OPEN,   /* file, → fd, read only */
	KEEP_FILE_CREATE, /* file, → fd, read-write, empty, under a temporary name (replaces one) */
	KEEP_FILE_PUBLISH, /* file: fsync, the temporary name becomes the real one, fsync of the
			      directory */
	KEEP_FILE_DROP,    /* file: real and temporary name */
	KEEP_LAYER_DROP,   /* layer: the whole directory; -EBUSY while mounted */
	KEEP_LIST,         /* list: which digests exist of a kind → memfd of struct digest[] */
	KEEP_LAYOUT_OPEN,  /* layout: a file of a local image layout → fd, read only */
	KEEP_LAYER_MOUNT, /* layer → fds: fill (O_RDWR on the tar, opened before the mark), image */
	KEEP_LAYER_UMOUNT, /* layer: only when nothing is attached; -EBUSY else, -ETXTBSY while it
			      is in use since before all of an earlier tarnd was killed */
	KEEP_MARK,         /* layer, on: FAN_PRE_ACCESS mark on the tar */
	KEEP_EXEC_MARK,   /* layer, flags: FAN_OPEN_EXEC_PERM and/or FAN_OPEN_PERM on the superblock
			   */
	KEEP_LEASE,       /* lease: probes write leases → granted[] */
	KEEP_ATTACH,      /* attach: overlay over mounted layers → detached mount fd */
	KEEP_DETACH_DONE, /* id: removes containers/<id> (-EBUSY while its overlay lives) */
	KEEP_FETCHER,     /* → fds: socket and buffer of a fresh fetcher of our own (one-shot) */
	KEEP_FETCHER_GONE, /* pid: the fetcher is to be killed */
	KEEP_STOPPED,      /* the engine has stopped as told by KEEP_TELL_STOP */

	/* the keeper's own messages, seq 0 */
	KEEP_TELL_BEGIN =
		100,        /* pid: what follows is for the HELLO of this engine, from the start */
	KEEP_TELL_LAYER,    /* during HELLO: a mounted layer, with fds like KEEP_LAYER_MOUNT; no
			       image: others use it, and it has yet to be mounted */
	KEEP_TELL_ATTACHED, /* during HELLO: a live attachment */
	KEEP_TELL_FETCHER,  /* a pooled fetcher: fds socket, buffer; pid */
	KEEP_TELL_READY,    /* end of the answer to HELLO; fd: listening control socket */
	KEEP_TELL_DETACHED, /* an attachment's overlay is gone */
	KEEP_TELL_STOP,     /* write everything down, then send KEEP_STOPPED */
	KEEP_TELL_AGAIN,    /* a new keeper: requests without an answer are to be sent again */
};

/* Files of the store by kind. `scope` is zero for a proved layer, else the manifest (law 13). */
enum keep_kind {
	KEEP_TAR = 1,    /* layers/<diff_id>/tar */
	KEEP_INDEX,      /* layers/<diff_id>/index */
	KEEP_IMAGE,      /* layers/<diff_id>/image.erofs */
	KEEP_MAP,        /* layers/<diff_id>/blob-<digest>.map; second digest: the blob */
	KEEP_SOURCES,    /* layers/<diff_id>/sources.json */
	KEEP_PRESENT,    /* layers/<diff_id>/present */
	KEEP_RECORD,     /* images/<manifest digest>.json: our record of an image */
	KEEP_BLOB,       /* blobs/sha256/<digest> */
	KEEP_INDEX_JSON, /* index.json of the store as an OCI layout; no digest */
	KEEP_PINS,       /* pins.json; no digest */
	KEEP_PARENTS,    /* images/<manifest digest>.erofs: see oci/erofs/parents.h */
	KEEP_CONTAINER,  /* containers/<id>; only to be listed */
	KEEP_LOST,       /* lost: layers in use when all of tarnd was killed; no digest */
	KEEP_KINDS
};

/*
 * KEEP_LIST of KEEP_TAR (every directory of a layer, finished or not), KEEP_BLOB, KEEP_PARENTS and
 * KEEP_CONTAINER gives an array of these, for whoever looks for what is left over.
 */
struct keep_found {
	struct digest key;   /* diff_id, blob or manifest */
	struct digest scope; /* KEEP_TAR: zero for the shared place */
	char id[LIMIT_ID];   /* KEEP_CONTAINER */
};

struct keep_file {
	uint32_t kind;
	uint32_t pad;
	struct digest key;    /* diff_id, manifest or blob */
	struct digest second; /* KEEP_MAP: the blob */
	struct digest scope;  /* zero: the shared place */
};

struct keep_layer {
	struct digest diff_id;
	struct digest scope;
	uint32_t on;    /* KEEP_MARK: 1 or 0 */
	uint32_t flags; /* KEEP_EXEC_MARK: KEEP_MARK_EXEC | KEEP_MARK_OPEN */
};
#define KEEP_MARK_EXEC 1u
#define KEEP_MARK_OPEN 2u

/* A file of a local layout: "oci-layout" and "index.json" by which, else blobs/sha256/<digest>. */
enum keep_layout_file { KEEP_LAYOUT_VERSION, KEEP_LAYOUT_INDEX, KEEP_LAYOUT_BLOB };
struct keep_layout {
	uint32_t which;
	struct digest digest;
	char dir[LIMIT_PATH]; /* absolute */
};

#define KEEP_LEASE_MAX 512 /* inodes in one request */
struct keep_lease {
	struct digest diff_id, scope;
	uint32_t n;
	uint32_t pad;
	uint64_t nid[KEEP_LEASE_MAX];
};

enum attach_kind { ATTACH_MOUNT = 1, ATTACH_RUNTIME, ATTACH_GRAFT, ATTACH_OVERMOUNT };
/* "mount", "runtime", "graft", "overmount"; NULL for another. */
const char *attach_kind_name(uint32_t kind);

struct keep_attach {
	char id[LIMIT_ID];   /* container id, or "mount-<hash>" */
	struct digest image; /* manifest digest */
	uint32_t kind;       /* enum attach_kind */
	int32_t pid;         /* for status; 0 unknown */
	uint32_t rw;         /* 1: upper and work under containers/<id> */
	uint32_t parents;    /* 1: KEEP_PARENTS on top; -EUCLEAN when it is not fit for that */
	uint32_t nlayers;    /* bottom first; all mounted */
	struct digest layer[LIMIT_LAYERS];
	uint8_t proved[LIMIT_LAYERS]; /* 0: under unproven/<image> */
	char label[256];              /* linux.mountLabel for overlay's context=, or "" */
};

struct keep_request {
	uint32_t op;
	uint32_t pad;
	uint64_t seq; /* chosen by the engine, > 0 */
	union {
		struct keep_file file;
		struct keep_layer layer;
		struct keep_layout layout;
		struct keep_lease lease;
		struct keep_attach attach;
		struct {
			uint32_t kind;
		} list;
		struct {
			char id[LIMIT_ID];
		} container;
		struct {
			int32_t pid;
		} fetcher;
		struct {
			int32_t pid;
		} engine;
	};
};

#define KEEP_FDS_MAX 4
struct keep_reply {
	uint32_t op;            /* KEEP_TELL_* for the keeper's own, else the request's */
	int32_t result;         /* 0 or negative errno */
	uint64_t seq;           /* of the request; 0 for the keeper's own */
	uint32_t nfds;          /* descriptors that came with this message */
	char text[256];         /* the words for a failure */
	struct err_links links; /* of `text` */
	union {
		struct {
			struct digest diff_id, scope;
			uint64_t tar_dev,
				tar_ino; /* st_dev, st_ino of the tar: what content events name */
			uint64_t fs_dev; /* st_dev of the EROFS superblock: exec events */
			uint32_t marked; /* content mark is on */
			uint32_t fresh;  /* this mount was made by this request */
		} layer;
		struct {
			uint32_t n;
			uint32_t shared; /* others use the layer, too: no file is granted */
			uint8_t granted[KEEP_LEASE_MAX]; /* 1: the lease was granted */
		} lease;
		struct {
			char id[LIMIT_ID];
			struct digest image;
			uint32_t kind;
			int32_t pid;
			uint32_t nlayers;
			struct digest layer[LIMIT_LAYERS];
			uint8_t proved[LIMIT_LAYERS];
		} attach;
		struct {
			int32_t pid;
		} fetcher;
		struct {
			int32_t pid;
		} engine;
	};
};

/* --- the engine's end (keep_client.c): thread-safe, one reader --- */
struct keep;

typedef void (*keep_tell_fn)(void *ctx, const struct keep_reply *msg, int *fds);

/* @fd is the engine's end of the pair (owned by the caller, outlives the object). */
int keep_new(int fd, keep_tell_fn tell, void *ctx, struct keep **ret);
struct keep *keep_free(struct keep *k);
/*
 * Called by the loop thread when @fd is readable: completes calls, passes tells on. -EPIPE: keeper
 * and guardian are gone, and every call fails from now on.
 */
int keep_pump(struct keep *k);
/*
 * From a task or worker thread (never the loop's): sends and waits for the answer, however often
 * the keeper is replaced meanwhile. Up to @maxfds descriptors go to @fds (owned by the caller;
 * missing ones are -1). Returns reply.result; its words go to @e.
 */
int keep_call(struct keep *k, struct keep_request *req, struct keep_reply *rep, int *fds,
	      int maxfds, struct err *e);
/* From any thread: sends if that needs no waiting (-EAGAIN); the answer is dropped. */
int keep_send(struct keep *k, struct keep_request *req);

/* Shared by both ends: one message with descriptors. 0 or -errno (-EPIPE: the other end went). */
int keep_sendmsg(int sock, const void *msg, size_t len, const int *fds, int nfds);
/* Returns the length, 0 at the end; received descriptors are cloexec. */
ssize_t keep_recvmsg(int sock, void *msg, size_t len, int *fds, int maxfds, int *ret_nfds);

#endif
