/* SPDX-License-Identifier: Apache-2.0 */
/* The broker's requests for files of the store and of image layouts. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "oci/base/err.h"
#include "plugin/broker_internal.h"
#include "plugin/store/files.h"

int broker_file_open(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd = store_file_open(b->ward->fd_store, &rq->file, O_RDONLY, &a->err);

	return fd < 0 ? fd : answer_fd(a, fd);
}

/*
 * A mounted layer's tar and image are what the kernel reads: they are never replaced. Where only
 * others use the layer they have an image of their own, and ours may be no good.
 */
static bool is_mounted(struct broker *b, const struct keep_file *f)
{
	struct ward_layer *l = NULL;

	if (f->kind == KEEP_TAR || f->kind == KEEP_IMAGE)
		l = broker_layer(b, &f->key, &f->scope);
	return l && (f->kind == KEEP_TAR || !broker_layer_let_go(b, l));
}

int broker_file_create(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd;

	if (is_mounted(b, &rq->file))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	fd = store_file_create(b->ward->fd_store, &rq->file, &a->err);
	return fd < 0 ? fd : answer_fd(a, fd);
}

int broker_file_publish(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	if (is_mounted(b, &rq->file))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	return store_file_publish(b->ward->fd_store, &rq->file, &a->err);
}

int broker_file_drop(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	if (is_mounted(b, &rq->file))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	return store_file_drop(b->ward->fd_store, &rq->file, &a->err);
}

int broker_layer_drop(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	if (broker_layer(b, &rq->layer.diff_id, &rq->layer.scope))
		return err_set(&a->err, -EBUSY, "the layer is mounted");
	return store_layer_drop(b->ward->fd_store, &rq->layer.diff_id, &rq->layer.scope, &a->err);
}

int broker_list(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd = store_list(b->ward->fd_store, rq->list.kind, &a->err);

	return fd < 0 ? fd : answer_fd(a, fd);
}

int broker_layout_open(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	int fd = store_layout_open(&rq->layout, &a->err);

	return fd < 0 ? fd : answer_fd(a, fd);
}

int broker_container_drop(struct broker *b, const struct keep_request *rq, struct answer *a)
{
	broker_drain_inotify(b);
	for (int i = 0; i < WARD_ATTACHED; i++) {
		const struct ward_attached *at = &b->ward->attached[i];

		if (atomic_load(&at->state) == WARD_LIVE &&
		    !strncmp(at->id, rq->container.id, LIMIT_ID))
			return err_set(&a->err, -EBUSY,
				       "container %.*s: its root file system is "
				       "still mounted",
				       LIMIT_ID, rq->container.id);
	}
	return store_container_drop(b->ward->fd_store, rq->container.id, &a->err);
}
