/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "hooks/attach.h"
#include "hooks/mnt.h"
#include "hooks/mountinfo.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"

/*
 * mount and umount: an image's root file system on the host. What tarnd calls it is made from the
 * directory's real path, so that umount needs no more than that.
 */
#define ID_DIGITS 16

struct place {
	char *path; /* owned */
	char id[sizeof("mount-") + ID_DIGITS];
};

static void place_free(struct place *p)
{
	free(p->path);
}

static int find_place(const char *dir, struct place *ret, struct err *e)
{
	char hex[DIGEST_HEX + 1];
	struct digest sum;

	ret->path = realpath(dir, NULL);
	if (!ret->path)
		return err_errno(e, -errno, "%s", dir);
	if (digest_of(ret->path, strlen(ret->path), &sum) < 0)
		return err_errno(e, -ENOMEM, "%s", dir);
	snprintf(ret->id, sizeof(ret->id), "mount-%.*s", ID_DIGITS, digest_hex(&sum, hex));
	return 0;
}

static int mount_image(const struct cli *cli, const char *image, const struct place *p,
		       struct err *e)
{
	const struct attach_request rq = {
		.socket = cli->socket,
		.id = p->id,
		.image = image,
		.rw = true,
		.kind = ATTACH_MOUNT,
	};
	_cleanup_fd_ int target = open(p->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int fd = -1;
	int r;

	if (target < 0)
		return err_errno(e, -errno, "%s", p->path);
	r = attach_open(&rq, &fd, e);
	if (r == -EEXIST)
		return err_set(e, r, "%s has an image mounted already: tarn umount it first",
			       p->path);
	if (r == 0)
		r = attach_check_root(fd, e);
	if (r < 0)
		return r;
	r = mnt_move(fd, target);
	if (r == 0) {
		/* On a shared mount it became shared itself: what containers mount below is theirs.
		 */
		r = mnt_set_private(fd);
		if (r < 0)
			umount2(p->path, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
	return r < 0 ? err_errno(e, r, "mounting at %s", p->path) : 0;
}

/* What the kernel calls EINVAL is no mistake in the command line. */
static int fail(const struct cli *cli, struct err *e)
{
	if (e->code == -EINVAL)
		e->code = -EIO;
	return cli_fail(cli, e);
}

int cmd_mount(int argc, char **argv, const struct cli *cli)
{
	_cleanup_(place_free) struct place p = {0};
	struct err e = ERR_INIT;
	int r;

	while (cli_getopt(cli, argc, argv) != -1)
		;
	r = find_place(argv[optind + 1], &p, &e);
	if (r == 0)
		r = mount_image(cli, argv[optind], &p, &e);
	return r < 0 ? fail(cli, &e) : 0;
}

/* --- umount --- */

static int is_listed(const struct cli *cli, const struct place *p, bool *ret, struct err *e)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	int r = request_open(&rq, "status", e);

	if (r == 0)
		r = ask(cli, &rq, &a, e);
	if (r < 0)
		return r;
	*ret = false;
	for (size_t i = 0; i < json_count(a.rows); i++) {
		const struct json *c = json_get(json_at(a.rows, i), "container");
		const char *id = json_get_str(c, "id");

		if (id && strcmp(id, p->id) == 0)
			*ret = true;
	}
	return 0;
}

static int is_overlay(const struct place *p, bool *ret, struct err *e)
{
	_cleanup_fd_ int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct mounttab tab = {0};
	const struct mountinfo *m;
	int r = proc < 0 ? err_errno(e, -errno, "/proc/self") : mounttab_read(proc, &tab, e);

	if (r < 0)
		return r;
	m = mounttab_top(&tab, p->path);
	*ret = m && strcmp(m->fstype, "overlay") == 0;
	mounttab_free(&tab);
	return 0;
}

/* Only what tarn has mounted. Without tarnd nobody knows better than the mount table. */
static int check_ours(const struct cli *cli, const struct place *p, struct err *e)
{
	bool overlay = false, listed = true;
	int r = is_overlay(p, &overlay, e);

	if (r == 0 && overlay)
		r = is_listed(cli, p, &listed, e);
	if (r == -ENOENT || r == -ECONNREFUSED)
		r = 0;
	if (r == 0 && !(overlay && listed))
		return err_set(e, -EINVAL, "%s has no image mounted by tarn", p->path);
	return r;
}

static int umount_image(const struct cli *cli, const struct place *p, struct err *e)
{
	int r = check_ours(cli, p, e);

	if (r < 0)
		return r;
	if (umount2(p->path, UMOUNT_NOFOLLOW) < 0)
		return err_errno(e, -errno, errno == EBUSY ? "%s is in use" : "unmounting %s",
				 p->path);
	return attach_remove(cli->socket, p->id, e);
}

int cmd_umount(int argc, char **argv, const struct cli *cli)
{
	_cleanup_(place_free) struct place p = {0};
	struct err e = ERR_INIT;
	int r;

	while (cli_getopt(cli, argc, argv) != -1)
		;
	r = find_place(argv[optind], &p, &e);
	if (r == 0)
		r = umount_image(cli, &p, &e);
	return r < 0 ? fail(cli, &e) : 0;
}
