/* SPDX-License-Identifier: Apache-2.0 */
/* What a keeper that was killed left half-done. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/broker_internal.h"
#include "plugin/log.h"

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

struct fd_list {
	int v[LIMIT_MOUNTED * 3 + WARD_FETCHERS + 32];
	int n;
};

static void keep_open(void *ctx, int32_t *fd)
{
	struct fd_list *list = ctx;

	if (*fd > 2)
		list->v[list->n++] = *fd;
}

static void close_unrecorded(struct ward *w)
{
	static struct fd_list list; /* this is to succeed without memory */
	unsigned first = 3;

	list.n = 0; /* a guardian that a keeper cloned hands a filled one on */
	ward_each_fd(w, keep_open, &list);
	qsort(list.v, (size_t)list.n, sizeof(list.v[0]), by_number);
	for (int i = 0; i < list.n; i++) {
		if ((unsigned)list.v[i] > first)
			close_range(first, (unsigned)list.v[i] - 1, 0);
		first = (unsigned)list.v[i] + 1;
	}
	close_range(first, ~0u, 0);
}

/* What inotify(7) has watches on, by its own account. -errno. */
static int read_watches(int fd_inotify, struct buf *out)
{
	char path[40];
	_cleanup_fd_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd_inotify);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd_read_all(fd, out);
}

static bool has_watch(const char *watches, int watch)
{
	char line[40];

	snprintf(line, sizeof(line), "inotify wd:%x ", (unsigned)watch);
	return strstr(watches, line) != NULL;
}

void broker_recover_detached(struct broker *b)
{
	_cleanup_buf_ struct buf text = {0};
	char store[32];
	const char *watches;
	int probe;

	/* One that is there for certain: without it in the list the list is not believed. */
	snprintf(store, sizeof(store), "/proc/self/fd/%d", b->ward->fd_store);
	probe = inotify_add_watch(b->ward->fd_inotify, store, IN_DELETE_SELF);
	buf_init(&text, LIMIT_FDINFO);
	watches = read_watches(b->ward->fd_inotify, &text) == 0 ? buf_cstr(&text) : NULL;
	if (!watches || probe < 0 || !has_watch(watches, probe))
		log_warn("which root file systems are still mounted cannot be checked");
	else
		inotify_rm_watch(b->ward->fd_inotify, probe);
	for (int i = 0; watches && has_watch(watches, probe) && i < WARD_ATTACHED; i++) {
		const struct ward_attached *at = &b->ward->attached[i];

		if (atomic_load(&at->state) == WARD_LIVE && !has_watch(watches, at->watch))
			broker_detached(b, at->watch);
	}
}

void broker_recover(struct broker *b)
{
	struct ward *w = b->ward;

	close_unrecorded(w);
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &w->layer[i];

		if (atomic_load(&l->state) == WARD_BUSY) {
			/* Its descriptors were closed with the unrecorded ones. */
			l->fd_mount = l->fd_image = l->fd_fill = -1;
			broker_layer_reset(w, l);
		}
	}
	for (int i = 0; i < WARD_ATTACHED; i++)
		if (atomic_load(&w->attached[i].state) == WARD_BUSY)
			atomic_store(&w->attached[i].state, WARD_FREE);
	ward_count_users(w);
}
