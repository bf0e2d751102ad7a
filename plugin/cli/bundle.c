/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/compose.h"

/* --- options --- */

void bundle_want_free(struct bundle_want *w)
{
	for (size_t i = 0; i < w->nvolumes; i++) {
		free((char *)w->volumes[i].src);
		free((char *)w->volumes[i].dst);
	}
	free(w->volumes);
	free(w->env);
	*w = (struct bundle_want){0};
}

static int add_env(struct bundle_want *w, const char *text)
{
	const char **more = reallocarray(w->env, w->nenv + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	w->env = more;
	w->env[w->nenv++] = text;
	return 0;
}

static int add_volume(struct bundle_want *w, char *src, char *dst, bool read_only)
{
	struct bundle_volume *more = reallocarray(w->volumes, w->nvolumes + 1, sizeof(*more));

	if (!more || !dst) {
		w->volumes = more ? more : w->volumes;
		free(src);
		free(dst);
		return -ENOMEM;
	}
	w->volumes = more;
	w->volumes[w->nvolumes++] = (struct bundle_volume){src, dst, read_only};
	return 0;
}

/* A source that is not there is noticed here, and not by the runtime. */
static int find_source(const struct cli *cli, const char *text, size_t len, char **ret)
{
	_cleanup_free_ char *given = strndup(text, len);
	struct err e = ERR_INIT;

	*ret = given ? realpath(given, NULL) : NULL;
	if (*ret)
		return 0;
	err_errno(&e, -errno, "volume %s", given ? given : text);
	return cli_fail(cli, &e);
}

/* SRC:DST[:ro] */
static int take_volume(const struct cli *cli, const char *text, struct bundle_want *w)
{
	size_t src_len = strcspn(text, ":");
	const char *dst = text[src_len] ? text + src_len + 1 : "";
	size_t dst_len = strcspn(dst, ":");
	const char *mode = dst + dst_len;
	char *src;
	int r;

	if (src_len == 0 || dst_len == 0)
		return cli_usage(cli, "volume '%s' is not of the form SRC:DST[:ro]", text);
	if (*mode && strcmp(mode, ":ro") != 0 && strcmp(mode, ":rw") != 0)
		return cli_usage(cli, "volume '%s': only :ro can follow", text);
	r = find_source(cli, text, src_len, &src);
	if (r != 0)
		return r;
	if (add_volume(w, src, strndup(dst, dst_len), strcmp(mode, ":ro") == 0) < 0)
		return cli_usage(cli, "out of memory");
	return 0;
}

static int take_net(const struct cli *cli, const char *text, struct bundle_want *w)
{
	if (strcmp(text, "host") != 0 && strcmp(text, "none") != 0)
		return cli_usage(cli, "--net is host or none, not '%s'", text);
	w->host_net = strcmp(text, "host") == 0;
	return 0;
}

int bundle_take_option(const struct cli *cli, int id, struct bundle_want *w)
{
	switch (id) {
	case OPT_READ_ONLY:
		w->read_only = true;
		return 0;
	case 't':
		w->terminal = true;
		return 0;
	case 'e':
		if (!strchr(optarg, '=') || optarg[0] == '=')
			return cli_usage(cli, "variable '%s' is not of the form K=V", optarg);
		return add_env(w, optarg) < 0 ? cli_usage(cli, "out of memory") : 0;
	case 'v':
		return take_volume(cli, optarg, w);
	case OPT_NET:
		return take_net(cli, optarg, w);
	default:
		return 0;
	}
}

/* --- the directory --- */

static int not_empty(void *ctx, int dir, const char *name)
{
	return -ENOTEMPTY;
}

static int check_empty(int dir)
{
	return fd_each_entry(fd_open_beneath(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0),
			     not_empty, NULL);
}

static int fill_dir(int dir, const struct buf *config, struct err *e)
{
	int r;

	if (mkdirat(dir, "rootfs", 0755) < 0)
		return err_errno(e, -errno, "rootfs");
	/* The environment in it may be secret. */
	r = fd_publish(dir, "config.json", config->data, config->len, 0600, e);
	if (r < 0)
		unlinkat(dir, "rootfs", AT_REMOVEDIR);
	return r;
}

static int write_dir(const char *path, const struct buf *config, struct err *e)
{
	bool made = mkdir(path, 0755) == 0;
	_cleanup_fd_ int dir = -1;
	int r = made || errno == EEXIST ? 0 : -errno;

	if (r == 0) {
		dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = dir < 0 ? -errno : check_empty(dir);
	}
	if (r == -ENOTEMPTY)
		return err_set(e, r, "%s is not empty: a bundle needs a directory of its own",
			       path);
	if (r < 0)
		err_errno(e, r, "%s", path);
	else
		r = fill_dir(dir, config, e);
	if (r < 0 && made)
		rmdir(path);
	return r;
}

/* Before the image is looked at, which can take a while. */
static int check_dir(const char *path, struct err *e)
{
	_cleanup_fd_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir >= 0 ? check_empty(dir) : errno == ENOENT ? 0 : -errno;

	if (r == -ENOTEMPTY)
		return err_set(e, r, "%s is not empty: a bundle needs a directory of its own",
			       path);
	return r < 0 ? err_errno(e, r, "%s", path) : 0;
}

int bundle_make(const struct cli *cli, const struct bundle_want *w, const char *dir, struct err *e)
{
	_cleanup_buf_ struct buf config = {0};
	int r = check_dir(dir, e);

	if (r < 0)
		return r;
	buf_init(&config, LIMIT_BUNDLE_CONFIG);
	r = compose_config(cli, w, &config, e);
	return r < 0 ? r : write_dir(dir, &config, e);
}

int cmd_bundle(int argc, char **argv, const struct cli *cli)
{
	_cleanup_bundle_want_ struct bundle_want w = {0};
	struct err e = ERR_INIT;
	int id, r;

	while ((id = cli_getopt(cli, argc, argv)) != -1) {
		r = bundle_take_option(cli, id, &w);
		if (r != 0)
			return r;
	}
	w.image = argv[optind];
	w.args = argv + optind + 2;
	w.nargs = (size_t)(argc - optind - 2);
	r = bundle_make(cli, &w, argv[optind + 1], &e);
	return r < 0 ? cli_fail(cli, &e) : 0;
}
