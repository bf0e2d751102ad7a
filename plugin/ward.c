/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ward.h"

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
