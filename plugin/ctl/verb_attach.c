/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/verbs.h"
#include "plugin/keep.h"
#include "plugin/store/attached.h"
#include "plugin/store/images.h"

static int read_kind(const char *text, uint32_t *ret, struct err *e)
{
	const char *name;

	for (uint32_t kind = ATTACH_MOUNT; text && (name = attach_kind_name(kind)); kind++) {
		if (strcmp(name, text) == 0) {
			*ret = kind;
			return 0;
		}
	}
	return err_set(e, CTL_USAGE, "attach: '%.100s' is no kind of attachment", text ? text : "");
}

static int read_id(const struct json *args, const char **ret, struct err *e)
{
	const char *id = json_get_str(args, "id");

	if (!id || !attached_id_valid(id))
		return err_set(e, CTL_USAGE,
			       "'%.200s' is no container id: letters, digits and '_.+-', at most "
			       "%d of them",
			       id ? id : "", LIMIT_ID - 1);
	*ret = id;
	return 0;
}

static int read_want(const struct json *args, struct attach_want *ret, struct err *e)
{
	const char *label = json_get_str(args, "label");
	int64_t pid = 0;
	int r;

	r = read_id(args, &ret->id, e);
	if (r == 0)
		r = read_kind(json_get_str(args, "kind"), &ret->kind, e);
	if (r < 0)
		return r;
	if (json_get_int(args, "pid", &pid) && (pid < 0 || pid > INT32_MAX))
		return err_set(e, CTL_USAGE, "attach: no such pid");
	ret->label = label ? label : "";
	if (strlen(ret->label) >= sizeof(((struct keep_attach *)NULL)->label))
		return err_set(e, CTL_USAGE, "attach: the mount label is too long");
	ret->pid = (int32_t)pid;
	ret->rw = json_bool(json_get(args, "rw"), true);
	return 0;
}

int verb_attach(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *image = json_get_str(t->args, "image");
	_cleanup_(record_freep) struct record *rec = NULL;
	struct attach_want want = {.id = NULL};
	char text[DIGEST_TEXT];
	int fd, r;

	if (!image)
		return err_set(e, CTL_USAGE, "attach: no image given");
	r = read_want(t->args, &want, e);
	if (r == 0)
		r = image_find(t->en, image, &rec, e);
	if (r == 0)
		r = attached_new(t->en, rec, &want, &fd, e);
	if (r < 0)
		return r;
	t->reply_fd = fd;
	json_put_str(done, "image", digest_text(&rec->manifest, text));
	return 0;
}

int verb_detach(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *id = NULL;
	int r = read_id(t->args, &id, e);

	return r < 0 ? r : attached_remove(t->en, id, e);
}
