/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ward.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "oci/base/cleanup.h"

bool ward_ready(const struct birth *b)
{
	if (atomic_load(&b->slots->ready))
		atomic_store(&b->ward->ready, 1);
	return atomic_load(&b->ward->ready);
}

void ward_close(int32_t *fd)
{
	int taken = take_fd(fd);

	cleanup_closep(&taken);
}

void ward_each_fd(struct ward *w, void (*fn)(void *ctx, int32_t *fd), void *ctx)
{
	int32_t *const fixed[] = {
		&w->fd_lock,      &w->fd_store,       &w->fd_listen,    &w->fd_linger,
		&w->fd_content,   &w->fd_exec,        &w->fd_inotify,   &w->fd_keep,
		&w->fd_engine,    &w->fd_slots,       &w->fd_ward,      &w->anchor_pidfd,
		&w->keeper_pidfd, &w->guardian_pidfd, &w->fd_successor,
	};

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		fn(ctx, fixed[i]);
	for (int i = 0; i < WARD_FETCHERS; i++)
		if (w->fetcher[i].pid)
			fn(ctx, &w->fetcher[i].pidfd);
	for (int i = 0; i < LIMIT_MOUNTED; i++) {
		struct ward_layer *l = &w->layer[i];

		if (atomic_load(&l->state) != WARD_LIVE)
			continue;
		fn(ctx, &l->fd_fill);
		fn(ctx, &l->fd_image);
		fn(ctx, &l->fd_mount);
	}
}

void ward_count_users(struct ward *w)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++)
		w->layer[i].users = 0;
	for (int i = 0; i < WARD_ATTACHED; i++) {
		const struct ward_attached *at = &w->attached[i];

		if (atomic_load(&at->state) != WARD_LIVE)
			continue;
		for (uint32_t k = 0; k < at->nlayers; k++)
			w->layer[at->layer[k]].users++;
	}
}

/* Where it is not known (before Linux 3.4) passwords are in a core as everything else is. */
void ward_no_core(void *mem, size_t size)
{
	(void)madvise(mem, size, MADV_DONTDUMP);
}

static void *map_shared(int fd, size_t size)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0 || (size_t)st.st_size != size)
		return NULL;
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	ward_no_core(p, size);
	return p;
}

int ward_map(int fd_ward, int fd_slots, struct ward **ret_ward, struct slots **ret_slots)
{
	struct ward *w = map_shared(fd_ward, sizeof(*w));
	struct slots *s = map_shared(fd_slots, sizeof(*s));

	if (w && s && w->version == WARD_VERSION) {
		*ret_ward = w;
		*ret_slots = s;
		return 0;
	}
	ward_unmap(w, s);
	return -EPROTO;
}

void ward_unmap(struct ward *w, struct slots *s)
{
	if (w)
		munmap(w, sizeof(*w));
	if (s)
		munmap(s, sizeof(*s));
}
