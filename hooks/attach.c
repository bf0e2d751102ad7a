/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/attach.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json_text.h"
#include "oci/base/limits.h"
#include "plugin/ctl/proto.h"

int attach_id_check(const char *id, struct err *e)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	static const char more[] = "abcdefghijklmnopqrstuvwxyz"
				   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-";
	size_t n = strlen(id);

	if (n > 0 && n < LIMIT_ID && strchr(first, id[0]) && strspn(id, more) == n)
		return 0;
	return err_set(e, -EINVAL,
		       "'%.200s' is no container id: letters, digits and '_.+-', first a letter or "
		       "digit, at most %d of them",
		       id, LIMIT_ID - 1);
}

static void request_open(struct json_text *rq, const char *verb, const char *id)
{
	json_text_open(rq, LIMIT_CTL_MESSAGE, false);
	json_open_map(rq->g, NULL);
	json_put_str(rq->g, "verb", verb);
	json_put_str(rq->g, "id", id);
}

/* What comes back is a descriptor or nothing. */
static int ask(const char *socket, struct json_text *rq, int *ret_fd, struct err *e)
{
	_cleanup_(ctl_client_freep) struct ctl_client *c = NULL;
	int r = ctl_connect(socket, &c, e);

	json_close_map(rq->g);
	return r < 0 ? r : ctl_request(c, &rq->text, NULL, NULL, ret_fd, e);
}

int attach_open(const struct attach_request *rq, int *ret_mount_fd, struct err *e)
{
	_cleanup_json_text_ struct json_text t = {.g = NULL};
	int fd = -1;
	int r;

	r = attach_id_check(rq->id, e);
	if (r < 0)
		return r;
	request_open(&t, "attach", rq->id);
	json_put_str(t.g, "image", rq->image);
	json_put_bool(t.g, "rw", rq->rw);
	json_put_str(t.g, "kind", attach_kind_name(rq->kind));
	json_put_int(t.g, "pid", rq->pid);
	if (rq->mount_label && *rq->mount_label)
		json_put_str(t.g, "label", rq->mount_label);
	r = ask(rq->socket, &t, &fd, e);
	if (r == 0 && fd < 0)
		r = err_set(e, -EPROTO, "tarnd sent no root file system");
	if (r < 0)
		return r;
	*ret_mount_fd = fd;
	return 0;
}

int attach_check_root(int mount_fd, struct err *e)
{
	static const char *const names[] = {"proc", "sys", "dev"};
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (fstatat(mount_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT)
				return err_errno(e, -errno, "/%s of the image", names[i]);
		} else if (!S_ISDIR(st.st_mode)) {
			return err_set(
				e, -ENOTDIR,
				"/%s of the image is no directory: a runtime could be led to "
				"the host's",
				names[i]);
		}
	}
	return 0;
}

int attach_remove(const char *socket, const char *id, struct err *e)
{
	_cleanup_json_text_ struct json_text t = {.g = NULL};
	int r;

	r = attach_id_check(id, e);
	if (r < 0)
		return r;
	request_open(&t, "detach", id);
	return ask(socket, &t, NULL, e);
}
