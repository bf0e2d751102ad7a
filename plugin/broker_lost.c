/* SPDX-License-Identifier: Apache-2.0 */
/* What the broker does for layers that every process of an earlier tarnd died over. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/broker_internal.h"
#include "plugin/fault/fan.h"
#include "plugin/log.h"
#include "plugin/mount/sign.h"
#include "plugin/others.h"
#include "plugin/store/files.h"

#define AGAIN_MS 1000    /* a read that began without a mark has come to its end by then */
#define LOOK_MS  5000    /* how often it is looked whether one is in use still */
#define LIST_MAX 0x80000 /* what nobody acknowledges does not grow for ever */
#define LINE_LEN (24 + DIGEST_TEXT)

struct find {
	struct broker *broker; /* borrowed */
	int list;              /* store/lost, or -errno */
	unsigned failed;
};

/* For `tarn status`, until somebody says that it was read. */
static void remember(const struct find *f, const struct digest *diff_id)
{
	char line[LINE_LEN], text[DIGEST_TEXT];
	int n = snprintf(line, sizeof(line), "%lld %s\n", (long long)time(NULL),
			 digest_text(diff_id, text));

	if (f->list < 0 || fd_write_full(f->list, line, (size_t)n) < 0)
		log_error("layer %s: `tarn status` cannot be told of it", text);
}

static void found(void *ctx, const struct digest *diff_id, const struct digest *scope)
{
	struct find *f = ctx;
	const struct keep_layer rq = {.diff_id = *diff_id, .scope = *scope};
	struct ward_layer *l = broker_layer(f->broker, diff_id, scope);
	struct err e = ERR_INIT;
	char text[DIGEST_TEXT];

	/* The keeper before this one died over it. */
	if (l)
		return;
	remember(f, diff_id);
	if (broker_layer_lost(f->broker, &rq, &l, &e) < 0) {
		f->failed++;
		log_error("layer %s is in use since before every process of tarnd was killed, and "
			  "cannot be mounted as it is, its readers %s: %s",
			  digest_text(diff_id, text), l ? "get EIO until it can" : "see zeros",
			  e.text);
	}
	if (!l)
		return;
	/* For an engine that nobody can tell: alone.h. There is none yet. */
	for (uint32_t i = 0; i < l->nothers; i++)
		slots_mounted(f->broker->birth.slots, l->other[i].dev, mount_sign(l->other[i].dev));
}

/*
 * EROFS's pages of holes, which were read while no mark was on. The mounts that a dead process held
 * are in no namespace, and overlayfs shows only what is uppermost in it, so that no descriptor
 * leads to all of these files; thus the pages of all file systems go. Those that are mapped stay.
 */
static int drop_pages(void)
{
	_cleanup_fd_ int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, "1", 1) < 0 ? -errno : 0;
}

static void drop_again(void *ctx)
{
	drop_pages();
}

static int open_list(int store)
{
	_cleanup_fd_ int fd = fd_open_beneath(
		store, "lost", O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > LIST_MAX && ftruncate(fd, 0) < 0)
		return -errno;
	return take_fd(&fd);
}

static void supervise_again(struct broker *b)
{
	struct find f = {.broker = b, .list = open_list(b->ward->fd_store)};
	unsigned n = others_each(b->ward->fd_store, found, &f);
	int r;

	if (n == 0) {
		struct stat st;

		/* An empty list is none. */
		if (f.list >= 0 && fstat(f.list, &st) == 0 && st.st_size == 0)
			unlinkat(b->ward->fd_store, "lost", 0);
		cleanup_closep(&f.list);
		return;
	}
	if (f.list >= 0)
		fsync(f.list);
	cleanup_closep(&f.list);
	r = drop_pages();
	loop_after(b->loop, AGAIN_MS, drop_again, NULL, NULL);
	log_error("%u layers were in use when every process of tarnd was killed; %u of them are "
		  "supervised again. What was read of them meanwhile may have been zeros, and "
		  "programs may have such pages mapped: restart the containers that ran then, see "
		  "tarn status",
		  n, n - f.failed);
	if (r < 0)
		log_error("what the page cache holds of them could not be dropped: %s",
			  err_words(r));
}

/* No engine knows of those that are not mounted, and so none says when they can go. */
static void look_after(void *ctx)
{
	struct broker *b = ctx;
	bool any = false;

	for (int i = 0; i < LIMIT_MOUNTED && !b->finishing; i++) {
		struct ward_layer *l = &b->ward->layer[i];

		if (atomic_load(&l->state) != WARD_LIVE || l->fd_image >= 0)
			continue;
		if (broker_layer_take_down(b, l) == 0)
			continue;
		l->shared = 1; /* somebody has its tar open, whoever it is */
		any = true;
	}
	if (any)
		loop_after(b->loop, LOOK_MS, look_after, b, NULL);
}

void broker_find_lost(struct broker *b)
{
	if (!b->ward->looked)
		supervise_again(b);
	b->ward->looked = 1;
	look_after(b);
}
