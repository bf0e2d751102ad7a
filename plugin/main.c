/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tarnd: the order in which it comes up, and nothing else. What is made here (store, groups,
 * sockets, shared memory) is made once; the guardian then holds it for the keepers that follow.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/descriptors.h"
#include "plugin/ctl/listen.h"
#include "plugin/fault/fan.h"
#include "plugin/fdstore.h"
#include "plugin/guard.h"
#include "plugin/isolate.h"
#include "plugin/log.h"
#include "plugin/solo.h"
#include "plugin/start.h"
#include "plugin/store/files.h"
#include "plugin/store/pages.h"

#define DEFAULT_STORE  "/var/lib/tarn"
#define DEFAULT_SOCKET "/run/tarn/tarnd.sock"
#define DEFAULT_CONFIG "/etc/tarn.conf"

/* Where the accounts of sysusers.d are missing: numbers no distribution hands out. */
#define ENGINE_UID_FALLBACK 1999000001
#define FETCH_UID_FALLBACK  1999000002

#define STORE_TRIES 100 /* 50 ms apart */

struct options {
	const char *store, *socket, *config;
	int verbose;
};

static void usage(FILE *out)
{
	fputs("usage: tarnd [--store DIR] [--socket PATH] [--config FILE] [-q | -v]\n"
	      "The daemon that brings container images in as they are touched.\n\n"
	      "  --store DIR     where layers are kept (" DEFAULT_STORE ", TARN_STORE)\n"
	      "  --socket PATH   control socket (" DEFAULT_SOCKET ", TARN_SOCKET)\n"
	      "  --config FILE   settings, see tarn.conf(5) (" DEFAULT_CONFIG " if it exists)\n"
	      "  -q, -v          only errors; more detail\n"
	      "  --help, --version\n\n"
	      "It runs in the foreground and prints 'tarnd: ready' once it can be asked.\n"
	      "SIGTERM stops it, SIGHUP rereads the settings.\n",
	      out);
}

static const char *env_or(const char *name, const char *fallback)
{
	const char *v = getenv(name);

	return v && *v ? v : fallback;
}

/* 0, or the exit status to end with + 1. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"store", required_argument, NULL, 's'},  {"socket", required_argument, NULL, 'S'},
		{"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0},
	};
	int c;

	*o = (struct options){.store = env_or("TARN_STORE", DEFAULT_STORE),
			      .socket = env_or("TARN_SOCKET", DEFAULT_SOCKET)};
	while ((c = getopt_long(argc, argv, "qv", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			o->store = optarg;
			break;
		case 'S':
			o->socket = optarg;
			break;
		case 'c':
			o->config = optarg;
			break;
		case 'q':
			o->verbose--;
			break;
		case 'v':
			o->verbose++;
			break;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS + 1;
		case 'V':
			puts("tarnd " TARN_VERSION);
			return EXIT_SUCCESS + 1;
		default:
			return 2 + 1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "tarnd: unexpected argument '%s'\n", argv[optind]);
		return 2 + 1;
	}
	if (!o->config && access(DEFAULT_CONFIG, F_OK) == 0)
		o->config = DEFAULT_CONFIG;
	return 0;
}

static int make_shared(const char *name, size_t size, int *ret_fd, void **ret)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* Whoever else has it, it stays as large as it is: reading behind its end would be SIGBUS.
	 */
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	*ret = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*ret == MAP_FAILED)
		return -errno;
	ward_no_core(*ret, size);
	*ret_fd = take_fd(&fd);
	return 0;
}

static void find_account(const char *name, uid_t fallback, uid_t *uid, gid_t *gid)
{
	const struct passwd *pw = getpwnam(name);

	*uid = pw ? pw->pw_uid : fallback;
	*gid = pw ? pw->pw_gid : fallback;
}

/* What keeper and engine talk through. */
static int make_pair(struct ward *w, struct err *e)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(e, -errno, "socketpair");
	w->fd_keep = pair[0];
	w->fd_engine = pair[1];
	return 0;
}

/* Everything for a first start on this store; -EBUSY from the lock is the caller's to judge. */
static int make_all(const struct birth *b, int store, int lock, struct err *e)
{
	struct ward *w = b->ward;
	int r;

	w->version = WARD_VERSION;
	w->fd_store = store;
	w->fd_lock = lock;
	w->anchor_pidfd = w->keeper_pidfd = w->guardian_pidfd = -1;
	r = fan_open_content(&w->fd_content, e);
	if (r == 0)
		r = fan_open_exec(&w->fd_exec, e);
	if (r < 0)
		return r;
	w->fd_inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd_inotify < 0)
		return err_errno(e, -errno, "inotify_init (fs.inotify.max_user_instances)");
	return make_pair(w, e);
}

static int map_all(struct birth *b, struct err *e)
{
	int fd_ward, fd_slots, r;

	r = make_shared("tarn-ward", sizeof(struct ward), &fd_ward, (void **)&b->ward);
	if (r == 0)
		r = make_shared("tarn-slots", sizeof(struct slots), &fd_slots, (void **)&b->slots);
	if (r < 0)
		return err_errno(e, r, "shared memory");
	b->ward->fd_linger = b->ward->fd_listen = b->ward->fd_successor = -1;
	b->ward->fd_ward = fd_ward;
	b->ward->fd_slots = fd_slots;
	descriptors_share(b->slots, b->descriptors);
	return 0;
}

/* What an earlier tarnd left is this one's now. */
static void resume(struct birth *b)
{
	uint32_t count = slots_count(b->slots);

	atomic_store(&b->ward->stopping, 0);
	atomic_store(&b->ward->ready, 0);
	atomic_store(&b->slots->ready, 0);
	memset(&b->slots->failure, 0, sizeof(b->slots->failure));
	/* Those above a smaller share may be in use. */
	descriptors_share(b->slots, b->descriptors);
	if (b->slots->count < count)
		b->slots->count = count;
}

/* A store that an earlier tarnd left to its guardian is taken over with all that is mounted. */
static int take_over(struct birth *b, const struct options *o, struct err *e)
{
	_cleanup_fd_ int dir = open(o->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	r = dir < 0 ? -ENOENT : guard_take_over(dir, &b->ward, &b->slots, e);
	if (r == -ENOENT)
		return e->code;
	if (r < 0)
		return err_wrap(e, r, "store %s", o->store);
	resume(b);
	log_info("took over the layers an earlier tarnd left mounted");
	return 0;
}

/* Guardian and keeper were killed, and what they held is there all the same. */
static int go_on(struct birth *b, int store, int lock, struct err *e)
{
	struct ward *w = b->ward;

	w->fd_store = store;
	w->fd_lock = lock;
	resume(b);
	log_info("took over what systemd kept of a tarnd that was killed");
	return make_pair(w, e);
}

/* On a store that nobody has locked. */
static int begin(struct birth *b, const struct options *o, struct fdstore *stored, int store,
		 int lock, struct err *e)
{
	struct ward *w = NULL;
	struct slots *s;
	int kept = fdstore_adopt(stored, &w, &s, e);

	if (kept < 0 && kept != -ENOENT)
		log_error("what systemd kept for tarnd cannot be used: %s", e->text);
	if (w)
		solo_end(store, atomic_load(&w->anchor_pid));
	if (solo_check(store, o->store, e) < 0)
		return e->code;
	store_sweep(store);
	if (!w) {
		int r = map_all(b, e);

		return r < 0 ? r : make_all(b, store, lock, e);
	}
	b->ward = w;
	b->slots = s;
	return go_on(b, store, lock, e);
}

static int open_or_take_over(struct birth *b, const struct options *o, struct fdstore *stored,
			     struct err *e)
{
	int store, lock, r;

	for (int tries = 0;; tries++) {
		r = store_open(o->store, &store, &lock, e);
		if (r == 0)
			return begin(b, o, stored, store, lock, e);
		if (r == -EBUSY)
			r = take_over(b, o, e);
		/* It has ended rather than hand over what it did not have. */
		if (r != -EAGAIN || tries == STORE_TRIES)
			return r;
		usleep(50000);
	}
}

static int bring_up(const struct options *o, struct fdstore *stored, struct birth *b, struct err *e)
{
	struct settings s;
	struct ward *w;
	int r;

	r = settings_read(o->config, o->verbose, &s, e);
	if (r < 0)
		return r;
	log_init("tarnd", (enum log_level)s.log_level);
	if (geteuid() != 0)
		return err_set(e, -EPERM, "only root can watch and mount layers");
	*b = (struct birth){
		.store = o->store, .socket = o->socket, .config = o->config, .verbose = o->verbose};
	r = descriptors_raise(&b->descriptors, e);
	if (!pages_raise_limit())
		log_debug("RLIMIT_MEMLOCK stays below %u MiB: content that a failing disk did not "
			  "take can leave memory before its reader has copied it",
			  LIMIT_HELD >> 20);
	/* The guardian holds what the keepers that it starts need, and uses nothing of it. */
	if (r == 0)
		r = isolate_keeper(e);
	if (r < 0)
		return r;
	r = open_or_take_over(b, o, stored, e);
	if (r < 0)
		return r;
	w = b->ward;
	w->settings = b->slots->settings = s;
	b->slots->has_group = s.group[0] && ctl_group(s.group, &b->slots->group, e) == 0;
	find_account("tarn-engine", ENGINE_UID_FALLBACK, &w->engine_uid, &w->engine_gid);
	find_account("tarn-fetch", FETCH_UID_FALLBACK, &w->fetch_uid, &w->fetch_gid);
	/* A taken over one goes on: a second try to bind it might fail. */
	if (w->fd_linger < 0)
		r = w->fd_linger = guard_listen(w->fd_store, e);
	if (r < 0)
		return r;
	/* Of an earlier tarnd: the process that held it may take a moment to be gone. */
	ctl_listen_end(w->fd_listen);
	cleanup_closep(&w->fd_listen);
	r = w->fd_listen = ctl_listen(o->socket, s.group, e);
	if (r < 0)
		return r;
	fdstore_keep(stored, w);
	return 0;
}

int main(int argc, char **argv)
{
	struct options o;
	struct birth b = {0};
	struct fdstore stored;
	struct err e = ERR_INIT;
	int r;

	fdstore_receive(&stored);
	umask(077);
	r = parse_options(argc, argv, &o);
	if (r)
		return r - 1;
	r = bring_up(&o, &stored, &b, &e);
	fdstore_done(&stored);
	if (r < 0) {
		fprintf(stderr, "tarnd: %s\n", e.text[0] ? e.text : err_words(r));
		return guard_abandon(&b, start_exit(r));
	}
	r = guard_run(&b, true);
	unlink(o.socket);
	return r;
}
