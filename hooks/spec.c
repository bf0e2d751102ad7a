/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "oci/bundle.h"

static bool is_true(const char *text)
{
	return text && strcmp(text, "true") == 0;
}

/* podman deletes a container from the runtime at every stop, and means it to start again. */
static bool is_kept(const struct json *annotations)
{
	const char *manager = json_get_str(annotations, "io.container.manager");

	return (manager && strcmp(manager, "libpod") == 0) ||
	       is_true(json_get_str(annotations, ANNOTATION_KEEP));
}

static void take_fields(struct spec *s)
{
	const struct json *annotations = json_get(s->doc, "annotations");
	const struct json *root = json_get(s->doc, "root");
	const char *rw = json_get_str(annotations, ANNOTATION_RW);
	const char *attached = json_get_str(annotations, ANNOTATION_ATTACHED);
	const char *path = json_get_str(root, "path");

	s->image = json_get_str(annotations, ANNOTATION_IMAGE);
	s->rw = !rw || strcmp(rw, "false") != 0;
	s->prepared = attached && strcmp(attached, "runtime") == 0;
	s->kept = is_kept(annotations);
	s->readonly = json_bool(json_get(root, "readonly"), false);
	s->root = path ? path : "";
	s->label = json_get_str(json_get(s->doc, "linux"), "mountLabel");
	s->cwd = json_get_str(json_get(s->doc, "process"), "cwd");
}

static int read_file(struct spec *s, struct buf *b)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;

	s->dir = open(s->bundle, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->dir < 0)
		return -errno;
	/* O_NONBLOCK: a fifo in its place must not hold us up. */
	fd = openat(s->dir, "config.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	s->mode = st.st_mode & 07777;
	return fd_read_all(fd, b);
}

int spec_open(const char *bundle, struct spec *ret, struct err *e)
{
	_cleanup_buf_ struct buf b = {0};
	int r = 0;

	*ret = (struct spec)SPEC_INIT;
	buf_init(&b, LIMIT_BUNDLE_CONFIG);
	ret->bundle = realpath(bundle, NULL);
	if (!ret->bundle)
		r = -errno;
	if (r == 0)
		r = read_file(ret, &b);
	if (r < 0)
		return err_errno(e, r, "%.300s/config.json", bundle);
	r = json_parse(b.data, b.len, LIMIT_BUNDLE_CONFIG, "config.json", &ret->doc, e);
	if (r < 0)
		return err_wrap(e, r, "%.300s", bundle);
	if (!json_is_object(ret->doc))
		return err_set(e, -EINVAL, "%.300s/config.json is no JSON object", bundle);
	take_fields(ret);
	return 0;
}

void spec_close(struct spec *s)
{
	cleanup_closep(&s->dir);
	free(s->bundle);
	json_free(s->doc);
	*s = (struct spec)SPEC_INIT;
}

static const struct json *find_namespace(const struct spec *s, const char *type)
{
	const struct json *list = json_get(json_get(s->doc, "linux"), "namespaces");

	for (size_t i = 0; i < json_count(list); i++) {
		const char *t = json_get_str(json_at(list, i), "type");

		if (t && strcmp(t, type) == 0)
			return json_at(list, i);
	}
	return NULL;
}

/* Only ids that are the same inside and outside name the image's owners rightly. */
static bool is_identity(const struct json *mappings)
{
	for (size_t i = 0; i < json_count(mappings); i++) {
		int64_t inside = -1, outside = -2;

		json_get_int(json_at(mappings, i), "containerID", &inside);
		json_get_int(json_at(mappings, i), "hostID", &outside);
		if (inside != outside)
			return false;
	}
	return true;
}

int spec_check(struct spec *s, struct err *e)
{
	const struct json *linux_part = json_get(s->doc, "linux");
	const struct json *mount_ns = find_namespace(s, "mount");
	int r = digest_parse(s->image, &s->digest, e);

	if (r < 0)
		return err_wrap(e, r, "annotation " ANNOTATION_IMAGE);
	if (!mount_ns || json_get_str(mount_ns, "path"))
		return err_set(e, -ENOTSUP,
			       "config.json gives the container no mount namespace of its own");
	if (!is_identity(json_get(linux_part, "uidMappings")) ||
	    !is_identity(json_get(linux_part, "gidMappings")))
		return err_set(e, -ENOTSUP,
			       "config.json maps user ids: the owners of the image's files would "
			       "be wrong; run the container without a user namespace");
	return 0;
}

int spec_root_path(const struct spec *s, char **ret, struct err *e)
{
	const char *between = s->root[0] == '/' ? "" : "/";
	char *path = NULL;

	if (!*s->root)
		return err_set(e, -EINVAL, "config.json has no root.path");
	if (asprintf(&path, "%s%s%s", *between ? s->bundle : "", between, s->root) < 0)
		return err_errno(e, -ENOMEM, "root.path");
	*ret = path;
	return 0;
}
