/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/attached.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/engine.h"
#include "plugin/loop.h"
#include "plugin/store/load.h"
#include "plugin/store/parents.h"
#include "plugin/store/record.h"

/* A container's mounts go a moment after its last process: 5 s at most are waited for. */
#define GONE_TRIES   50
#define GONE_WAIT_US 100000

bool attached_id_valid(const char *id)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	static const char more[] = "abcdefghijklmnopqrstuvwxyz"
				   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";
	size_t n = strlen(id);

	return n > 0 && n < LIMIT_ID && strchr(first, id[0]) && strspn(id, more) == n;
}

/* --- making one --- */

/*
 * Is the layer in the image a second time further up? Then it is left out here: what the upper
 * one has hides all of this one, and overlayfs takes no directory twice.
 */
static bool again_above(const struct record *rec, uint32_t i)
{
	for (uint32_t k = i + 1; k < rec->nlayers; k++)
		if (digest_equal(&rec->layers[k].diff_id, &rec->layers[i].diff_id))
			return true;
	return false;
}

/* The layers below one root file system, and the request for it. */
struct making {
	struct engine *en; /* borrowed */
	struct keep_request req;
	struct layer *layer[LIMIT_LAYERS]; /* a reference each */
	uint32_t n;
};

static void umount_all(struct making *m)
{
	while (m->n > 0)
		layer_umount(m->en, m->layer[--m->n]);
}

static int mount_all(struct making *m, const struct record *rec, struct err *e)
{
	struct keep_attach *rq = &m->req.attach;

	for (uint32_t i = 0; i < rec->nlayers; i++) {
		const struct record_layer *l = &rec->layers[i];
		struct digest scope = record_scope(rec, l);
		int r;

		if (again_above(rec, i))
			continue;
		r = layer_mount(m->en, &l->diff_id, &scope, &m->layer[m->n], e);
		if (r < 0)
			return r;
		rq->layer[m->n] = l->diff_id;
		rq->proved[m->n] = l->proved;
		rq->nlayers = ++m->n;
	}
	return 0;
}

static int record_it(void *ctx)
{
	struct making *m = ctx;

	return engine_attached(m->en, &m->req.attach);
}

/* The layers are mounted; now the overlay. The record of it takes references of its own. */
static int ask_attach(struct making *m, int *ret_fd, struct err *e)
{
	_cleanup_fd_ int fd = -1;
	struct keep_reply rep;
	int r = keep_call(m->en->keep, &m->req, &rep, &fd, 1, e);

	if (r == 0 && fd < 0)
		r = err_set(e, -EPROTO, "the keeper sent no mount");
	if (r < 0)
		return err_wrap(e, r, "container %s", m->req.attach.id);
	r = loop_call(m->en->loop, record_it, m);
	if (r < 0)
		return err_errno(e, r, "container %s", m->req.attach.id);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Once more when the kernel refused a parents image that parents_ensure() took for good. */
static int attach(struct making *m, struct record *rec, int *ret_fd, struct err *e)
{
	int r;

	m->req.attach.parents = rec->parents;
	r = ask_attach(m, ret_fd, e);
	if (r != -EUCLEAN || !rec->parents)
		return r;
	r = parents_renew(m->en, rec, e);
	m->req.attach.parents = rec->parents;
	return r < 0 ? r : ask_attach(m, ret_fd, e);
}

static void fill_request(const struct record *rec, const struct attach_want *want,
			 struct keep_request *req)
{
	struct keep_attach *rq = &req->attach;

	req->op = KEEP_ATTACH;
	snprintf(rq->id, sizeof(rq->id), "%s", want->id);
	snprintf(rq->label, sizeof(rq->label), "%s", want->label);
	rq->image = rec->manifest;
	rq->kind = want->kind;
	rq->pid = want->pid;
	rq->rw = want->rw;
}

int attached_new(struct engine *en, struct record *rec, const struct attach_want *want,
		 int *ret_mount_fd, struct err *e)
{
	_cleanup_free_ struct making *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_errno(e, -ENOMEM, "container %s", want->id);
	m->en = en;
	fill_request(rec, want, &m->req);
	r = parents_ensure(en, rec, e);
	if (r == 0)
		r = mount_all(m, rec, e);
	if (r == 0)
		r = attach(m, rec, ret_mount_fd, e);
	umount_all(m);
	return r;
}

/* --- the end of one --- */

int attached_remove(struct engine *en, const char *id, struct err *e)
{
	_cleanup_free_ struct keep_request *req = calloc(1, sizeof(*req));
	struct keep_reply rep;
	struct err why = ERR_INIT;
	int r = -EBUSY;

	if (!req)
		return err_errno(e, -ENOMEM, "container %s", id);
	req->op = KEEP_DETACH_DONE;
	snprintf(req->container.id, sizeof(req->container.id), "%s", id);
	for (int i = 0; r == -EBUSY && i < GONE_TRIES; i++) {
		if (i > 0)
			usleep(GONE_WAIT_US);
		r = keep_call(en->keep, req, &rep, NULL, 0, &why);
	}
	if (r < 0 && r != -ENOENT) {
		err_take(e, r, why.text, &why.links);
		return err_wrap(e, r, "container %s", id);
	}
	return 0;
}
