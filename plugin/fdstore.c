/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/fdstore.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/log.h"
#include "plugin/notify.h"

#define NAME_LEN 32

/* --- places and their names --- */

enum part { PART_FILL, PART_IMAGE, PART_MOUNT, PARTS };

typedef void place_fn(void *ctx, const char *name, int32_t *fd);

static int32_t *part_of(struct ward_layer *l, enum part part)
{
	return part == PART_FILL ? &l->fd_fill : part == PART_IMAGE ? &l->fd_image : &l->fd_mount;
}

static const char *part_name(const struct ward *w, const struct ward_layer *l, enum part part,
			     char out[NAME_LEN])
{
	static const char *const names[PARTS] = {"fill", "image", "mount"};

	snprintf(out, NAME_LEN, "layer-%d-%s", (int)(l - w->layer), names[part]);
	return out;
}

/* All that is no layer's, but for the memory. */
static void each_watch(struct ward *w, place_fn *fn, void *ctx)
{
	fn(ctx, "content", &w->fd_content);
	fn(ctx, "exec", &w->fd_exec);
	fn(ctx, "inotify", &w->fd_inotify);
}

static void each_part(struct ward *w, struct ward_layer *l, place_fn *fn, void *ctx)
{
	char name[NAME_LEN];

	for (enum part part = 0; part < PARTS; part++)
		fn(ctx, part_name(w, l, part, name), part_of(l, part));
}

static void each_fixed(struct ward *w, place_fn *fn, void *ctx)
{
	fn(ctx, "ward", &w->fd_ward);
	fn(ctx, "slots", &w->fd_slots);
	each_watch(w, fn, ctx);
}

static void each_layer(struct ward *w, place_fn *fn, void *ctx)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++)
		if (atomic_load(&w->layer[i].state) == WARD_LIVE)
			each_part(w, &w->layer[i], fn, ctx);
}

/* --- what systemd is told --- */

static int send_store(const char *name, int fd)
{
	char lines[NAME_LEN + 40];

	/* Not to be polled: what looks like its end is none, and a mount cannot even be. */
	snprintf(lines, sizeof(lines), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
	return notify_send(lines, fd);
}

static int send_remove(const char *name)
{
	char lines[NAME_MAX + 40];

	snprintf(lines, sizeof(lines), "FDSTOREREMOVE=1\nFDNAME=%.*s", NAME_MAX, name);
	return notify_send(lines, -1);
}

/* @ctx, here and below, is the first thing that went wrong: the rest is left then. */
static void remove_place(void *ctx, const char *name, int32_t *fd)
{
	int *failed = ctx;

	if (*failed == 0)
		*failed = send_remove(name);
}

static void add_place(void *ctx, const char *name, int32_t *fd)
{
	int *failed = ctx;

	if (*failed == 0 && *fd >= 0)
		*failed = send_store(name, *fd);
}

/* A name has one descriptor, whatever became of an earlier one. */
static void store_place(void *ctx, const char *name, int32_t *fd)
{
	remove_place(ctx, name, fd);
	add_place(ctx, name, fd);
}

static void say(struct ward *w, int failed)
{
	if (failed == 0 || failed == -ENOTCONN)
		return;
	atomic_store(&w->behind, 1);
	log_warn("systemd does not take what it should keep for tarnd (%s): were all of its "
		 "processes killed at once, readers would see zeros",
		 failed == -EAGAIN ? "it does not answer" : err_words(failed));
}

static int wait_and_say(struct ward *w, int failed)
{
	if (failed == 0)
		failed = notify_wait();
	say(w, failed);
	return failed;
}

void fdstore_layer(struct ward *w, struct ward_layer *l)
{
	const bool all = atomic_load(&w->behind);
	int failed = 0;

	if (all) {
		each_fixed(w, store_place, &failed);
		each_layer(w, store_place, &failed);
	}
	each_part(w, l, store_place, &failed);
	if (wait_and_say(w, failed) == 0 && all)
		atomic_store(&w->behind, 0);
}

void fdstore_mount_gone(struct ward *w, const struct ward_layer *l)
{
	char name[NAME_LEN];

	say(w, send_remove(part_name(w, l, PART_MOUNT, name)));
}

void fdstore_layer_gone(struct ward *w, struct ward_layer *l)
{
	int failed = 0;

	each_part(w, l, remove_place, &failed);
	say(w, failed);
}

void fdstore_clear(struct ward *w)
{
	int failed = 0;

	each_fixed(w, remove_place, &failed);
	each_layer(w, remove_place, &failed);
	/* systemd looks up who says so, who must not be gone by then. */
	wait_and_say(w, failed);
}

/* --- what this process was born with --- */

static int number_of(const char *name, int most)
{
	const char *v = getenv(name);
	char *end;
	long n = v && *v ? strtol(v, &end, 10) : -1;

	return n < 0 || n > most || *end ? -1 : (int)n;
}

/* Each gets the name that is next in @names, which are parted by colons. */
static int add_all(struct fdstore *f, unsigned n, const char *names)
{
	f->kept = calloc(n, sizeof(*f->kept));
	if (!f->kept)
		return -ENOMEM;
	for (; f->n < n; f->n++) {
		size_t len = strcspn(names, ":");
		struct fdstore_kept *k = &f->kept[f->n];

		k->fd = FDSTORE_FIRST + (int)f->n;
		k->name = strndup(names, len);
		if (!k->name)
			return -ENOMEM;
		if (fcntl(k->fd, F_SETFD, FD_CLOEXEC) < 0)
			k->fd = -1; /* it will be somebody else's number */
		names += len + (names[len] == ':');
	}
	return 0;
}

void fdstore_receive(struct fdstore *f)
{
	const char *names = getenv("LISTEN_FDNAMES");
	int pid = number_of("LISTEN_PID", INT_MAX), n = number_of("LISTEN_FDS", 1 << 20);

	*f = (struct fdstore){.n = 0};
	if (pid == getpid() && n > 0 && names && add_all(f, (unsigned)n, names) < 0)
		log_error("what systemd kept for tarnd: %s", err_words(-ENOMEM));
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

void fdstore_done(struct fdstore *f)
{
	for (unsigned i = 0; i < f->n; i++) {
		cleanup_closep(&f->kept[i].fd);
		free(f->kept[i].name);
	}
	free(f->kept);
	*f = (struct fdstore){.n = 0};
}

/* The one of that name, of the inode @ino of @dev unless that is 0; -1: there is none. */
static int take(struct fdstore *f, const char *name, uint64_t dev, uint64_t ino)
{
	for (unsigned i = 0; i < f->n; i++) {
		struct fdstore_kept *k = &f->kept[i];
		struct stat st;

		if (k->fd < 0 || strcmp(k->name, name) != 0 || fstat(k->fd, &st) < 0)
			continue;
		if ((!dev || st.st_dev == dev) && (!ino || st.st_ino == ino))
			return take_fd(&k->fd);
	}
	return -1;
}

/* --- a ward from the store --- */

struct adoption {
	struct fdstore *from;
	unsigned missing;
};

static void adopt_watch(void *ctx, const char *name, int32_t *fd)
{
	struct adoption *a = ctx;

	*fd = take(a->from, name, 0, 0);
	a->missing += *fd < 0;
}

static void adopt_layer(struct adoption *a, struct ward *w, struct ward_layer *l)
{
	char name[NAME_LEN];
	bool half;

	l->fd_fill = take(a->from, part_name(w, l, PART_FILL, name), l->tar_dev, l->tar_ino);
	l->fd_image = take(a->from, part_name(w, l, PART_IMAGE, name), 0, 0);
	l->fd_mount = take(a->from, part_name(w, l, PART_MOUNT, name), l->fs_dev, 0);
	half = l->fd_fill < 0 || l->fd_image < 0;
	if (l->users > 0 ? half || l->fd_mount < 0 : l->shared && l->fd_fill < 0)
		a->missing++;
	else if (half && !l->shared)
		atomic_store(&l->state, WARD_BUSY); /* it was on its way out: broker_recover() */
}

/* The processes that it speaks of are gone, and so are their descriptors. */
static void forget_processes(struct ward *w)
{
	w->fd_lock = w->fd_store = w->fd_listen = w->fd_linger = -1;
	w->fd_keep = w->fd_engine = w->fd_successor = -1;
	w->anchor_pidfd = w->keeper_pidfd = w->guardian_pidfd = -1;
	w->pooling = 0;
	memset(w->fetcher, 0, sizeof(w->fetcher));
}

static int adopt_all(struct fdstore *f, struct ward *w)
{
	struct adoption a = {.from = f};

	forget_processes(w);
	ward_count_users(w);
	each_watch(w, adopt_watch, &a);
	for (int i = 0; i < LIMIT_MOUNTED; i++)
		if (atomic_load(&w->layer[i].state) == WARD_LIVE)
			adopt_layer(&a, w, &w->layer[i]);
	return a.missing ? -ENODATA : 0;
}

static void drop(void *ctx, int32_t *fd)
{
	ward_close(fd);
}

int fdstore_adopt(struct fdstore *f, struct ward **ret_ward, struct slots **ret_slots,
		  struct err *e)
{
	_cleanup_fd_ int fd_ward = take(f, "ward", 0, 0);
	_cleanup_fd_ int fd_slots = take(f, "slots", 0, 0);
	struct ward *w;
	struct slots *s;
	int r;

	if (f->n == 0)
		return -ENOENT;
	r = fd_ward < 0 || fd_slots < 0 ? -ENODATA : ward_map(fd_ward, fd_slots, &w, &s);
	if (r == 0) {
		w->fd_ward = take_fd(&fd_ward);
		w->fd_slots = take_fd(&fd_slots);
		r = adopt_all(f, w);
		if (r < 0) {
			ward_each_fd(w, drop, NULL);
			munmap(w, sizeof(*w));
			munmap(s, sizeof(*s));
		}
	}
	if (r < 0)
		return err_set(e, r,
			       r == -EPROTO ? "it is of a tarnd of another version"
					    : "a part of it is missing");
	f->ours = true;
	*ret_ward = w;
	*ret_slots = s;
	return 0;
}

/* --- what is in the store, and what should be --- */

struct keeping {
	struct fdstore *f;
	bool in_use;
	int failed;
};

static void keep_place(void *ctx, const char *name, int32_t *fd)
{
	struct keeping *k = ctx;
	unsigned n = 0;

	for (unsigned i = 0; i < k->f->n; i++) {
		if (strcmp(k->f->kept[i].name, name) == 0) {
			k->f->kept[i].placed = true;
			n++;
		}
	}
	if (!k->f->ours || n != 1 || *fd < 0)
		store_place(&k->failed, name, fd);
	/*
	 * It was there when this process was born. A guardian that ended since has taken out what
	 * nobody used. systemd, which compares a new one with all it has, is not asked more often.
	 */
	else if (!k->in_use)
		add_place(&k->failed, name, fd);
}

void fdstore_keep(struct fdstore *f, struct ward *w)
{
	struct keeping k = {.f = f};
	struct stat st;
	int same = fstat(w->fd_ward, &st) < 0 ? -1 : take(f, "ward", st.st_dev, st.st_ino);

	f->ours |= same >= 0;
	cleanup_closep(&same);
	each_fixed(w, keep_place, &k);
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		if (atomic_load(&w->layer[i].state) != WARD_LIVE)
			continue;
		k.in_use = w->layer[i].users > 0;
		each_part(w, &w->layer[i], keep_place, &k);
	}
	for (unsigned i = 0; i < f->n; i++)
		if (!f->kept[i].placed)
			remove_place(&k.failed, f->kept[i].name, NULL);
	wait_and_say(w, k.failed);
}
