/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/compose.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "hooks/attach.h"
#include "hooks/edit.h"
#include "hooks/find.h"
#include "hooks/spec.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/bundle.h"
#include "plugin/cli/cli.h"
#include "plugin/ctl/proto.h"
#include "plugin/isolate.h"

/* What the child works on. It is a copy of this process: plain pointers reach it. */
struct compose {
	struct buf config;        /* of the image */
	struct buf passwd, group; /* empty: the image has none, or it was not looked at */
	struct digest image;
	const struct bundle_want *want;
	const char *hook, *socket;
	bool cgroup;
};

static void compose_free(struct compose *c)
{
	buf_free(&c->config);
	buf_free(&c->passwd);
	buf_free(&c->group);
}

/* --- what runs without rights --- */

static void run_config_freep(struct run_config *c)
{
	run_config_free(c);
}

static int put_user(void *ctx, struct buf *out, struct err *e)
{
	struct compose *c = ctx;
	_cleanup_(run_config_freep) struct run_config rc = {0};
	int r = config_parse_run(c->config.data, c->config.len, "image config", &rc, e);

	return r < 0 ? r : buf_put_str(out, rc.user ? rc.user : "");
}

static int write_bundle(struct compose *c, const struct run_config *rc, struct buf *out,
			struct err *e)
{
	const struct bundle_want *w = c->want;
	const struct bundle_options opt = {
		.image = &c->image,
		.read_only = w->read_only,
		.terminal = w->terminal,
		.host_net = w->host_net,
		.cgroup_mount = c->cgroup,
		.env = w->env,
		.nenv = w->nenv,
		.args = (const char *const *)w->args,
		.nargs = w->nargs,
		.volumes = w->volumes,
		.nvolumes = w->nvolumes,
		.hook_path = c->hook,
		.socket_path = c->socket,
	};
	_cleanup_free_ struct bundle_user *user = calloc(1, sizeof(*user));
	int r;

	if (!user)
		return err_errno(e, -ENOMEM, "config.json");
	r = bundle_user_lookup(rc->user, c->passwd.len ? buf_cstr(&c->passwd) : NULL,
			       c->group.len ? buf_cstr(&c->group) : NULL, user, e);
	return r < 0 ? r : bundle_write(rc, user, &opt, out, e);
}

/* The writable layer stays: for the hook that runs when the runtime deletes the container. */
static int mark_kept(struct buf *text, struct buf *out, struct err *e)
{
	static const struct edit_annotation set = {ANNOTATION_KEEP, "true"};
	_cleanup_(json_freep) struct json *doc = NULL;
	int r = json_parse(text->data, text->len, LIMIT_BUNDLE_CONFIG, "config.json", &doc, e);

	return r < 0 ? r : edit_config(doc, NULL, &set, 1, out, e);
}

static int put_bundle(void *ctx, struct buf *out, struct err *e)
{
	struct compose *c = ctx;
	_cleanup_(run_config_freep) struct run_config rc = {0};
	_cleanup_buf_ struct buf text = {0};
	int r = config_parse_run(c->config.data, c->config.len, "image config", &rc, e);

	if (r < 0)
		return r;
	buf_init(&text, out->max);
	r = write_bundle(c, &rc, &text, e);
	if (r < 0)
		return r;
	return c->want->keep ? mark_kept(&text, out, e) : buf_put(out, text.data, text.len);
}

/* --- what it works on --- */

/* The image's config; the image's digest comes with it. */
static int fetch_config(const struct cli *cli, struct compose *c, struct err *e)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_(ctl_client_freep) struct ctl_client *client = NULL;
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_fd_ int fd = -1;
	const char *digest;
	int r = request_open(&rq, "config", e);

	if (r < 0)
		return r;
	json_put_str(rq.g, "image", c->want->image);
	json_close_map(rq.g);
	r = ctl_connect(cli->socket, &client, e);
	if (r == 0)
		r = ctl_request(client, &rq.text, NULL, &doc, &fd, e);
	if (r < 0)
		return r;
	digest = json_get_str(json_get(doc, "done"), "image");
	if (!digest || fd < 0)
		return err_set(e, -EPROTO, "tarnd sent no config of %.200s", c->want->image);
	r = digest_parse(digest, &c->image, e);
	if (r < 0)
		return r;
	r = fd_read_all(fd, &c->config);
	return r < 0 ? err_errno(e, r, "config of %.200s", c->want->image) : 0;
}

static int read_file(int root, const char *path, struct buf *out, struct err *e)
{
	/* A fifo or a device that stands in its place must neither hold us up nor be read. */
	_cleanup_fd_ int fd = fd_open_in_root(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;
	int r = 0;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		r = fd;
	else if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		return err_set(e, -EBADMSG, "/%s of the image is no file", path);
	else
		r = fd_read_all(fd, out);
	return r < 0 ? err_errno(e, r, "/%s of the image", path) : 0;
}

/* The image is attached for as long as it takes, and appears nowhere. */
static int read_accounts(const struct cli *cli, struct compose *c, struct err *e)
{
	char id[32], text[DIGEST_TEXT];
	const struct attach_request rq = {
		.socket = cli->socket,
		.id = id,
		.image = digest_text(&c->image, text),
		.kind = ATTACH_MOUNT,
		.pid = (int32_t)getpid(),
	};
	uint64_t random;
	int root = -1, r;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_errno(e, -errno, "a random name");
	snprintf(id, sizeof(id), "users-%016llx", (unsigned long long)random);
	r = attach_open(&rq, &root, e);
	if (r < 0)
		return r;
	r = read_file(root, "etc/passwd", &c->passwd, e);
	if (r == 0)
		r = read_file(root, "etc/group", &c->group, e);
	close(root);
	(void)attach_remove(cli->socket, id, NULL);
	return r;
}

static bool is_numeric(const char *user)
{
	return user[strspn(user, "0123456789:")] == '\0';
}

/* Options have been checked: what is left is the image's fault and no wrong usage. */
static int image_fault(const struct bundle_want *w, int r, struct err *e)
{
	err_wrap(e, r, "%.200s", w->image);
	return e->code = r == -EINVAL ? -EBADMSG : r;
}

/* Runtimes look up a numeric user's home themselves. */
static int find_accounts(const struct cli *cli, struct compose *c, struct err *e)
{
	_cleanup_buf_ struct buf user = {0};
	const char *text;
	int r;

	buf_init(&user, LIMIT_PATH);
	r = isolate_call(put_user, c, &user, e);
	if (r < 0)
		return image_fault(c->want, r, e);
	text = buf_cstr(&user);
	if (!text)
		return err_errno(e, -ENOMEM, "the image's user");
	return is_numeric(text) ? 0 : read_accounts(cli, c, e);
}

/* With cgroup v1 each runtime wants it another way; containers can do without. */
static bool has_cgroup2(void)
{
	struct statfs fs;

	return statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

/* What is written into config.json is read from another working directory. */
static int absolute_path(const char *path, char **ret, struct err *e)
{
	_cleanup_free_ char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
	int n = path[0] == '/' || cwd
			? asprintf(ret, "%s%s%s", cwd ? cwd : "", cwd ? "/" : "", path)
			: -1;

	return n < 0 ? err_errno(e, -ENOMEM, "%s", path) : 0;
}

static int compose(const struct cli *cli, const struct bundle_want *w, struct buf *out,
		   struct err *e)
{
	_cleanup_(compose_free) struct compose c = {.want = w, .cgroup = has_cgroup2()};
	_cleanup_free_ char *hook = NULL;
	_cleanup_free_ char *socket = NULL;
	int r;

	buf_init(&c.config, LIMIT_CONFIG);
	buf_init(&c.passwd, LIMIT_PASSWD);
	buf_init(&c.group, LIMIT_PASSWD);
	r = find_sibling("tarn-hook", TARN_LIBEXECDIR "/tarn-hook", &hook, e);
	if (r == 0)
		r = absolute_path(cli->socket, &socket, e);
	if (r == 0)
		r = fetch_config(cli, &c, e);
	if (r == 0)
		r = find_accounts(cli, &c, e);
	if (r < 0)
		return r;
	c.hook = hook;
	c.socket = socket;
	r = isolate_call(put_bundle, &c, out, e);
	return r < 0 ? image_fault(w, r, e) : 0;
}

int compose_config(const struct cli *cli, const struct bundle_want *w, struct buf *out,
		   struct err *e)
{
	int r = compose(cli, w, out, e);

	/* What is wrong with an image is no mistake in the command line (ctl_exit_code()). */
	if (r == -EINVAL)
		r = e->code = -EBADMSG;
	return r;
}
