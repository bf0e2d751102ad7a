/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hooks/attach.h"
#include "hooks/private.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "plugin/cli/ask.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/known.h"

#define BEGIN "run-"
#define END   "-XXXXXX"
/*
 * A younger one may not have been locked yet. When `tarn run` is killed as soon as it has started
 * tarn-runtime, that takes less than this until tarnd or the runtime know of the container.
 */
#define YOUNG_S 60

/* --- making and removing --- */

int rundir_make(const char *id, char path[LIMIT_PATH], int *ret_lock, struct err *e)
{
	const char *rundir = private_rundir();
	_cleanup_fd_ int lock = -1;
	int n, r = private_make_rundir(rundir, e);

	if (r < 0)
		return r;
	n = snprintf(path, LIMIT_PATH, "%s/" BEGIN "%s" END, rundir, id);
	if (n >= LIMIT_PATH || !mkdtemp(path)) {
		r = n >= LIMIT_PATH ? -ENAMETOOLONG : -errno;
		path[0] = '\0';
		return err_errno(e, r, "a bundle in %.300s", rundir);
	}
	lock = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) < 0) {
		err_errno(e, -errno, "locking %.300s", path);
		rundir_remove(path);
		path[0] = '\0';
		return e->code;
	}
	*ret_lock = take_fd(&lock);
	return 0;
}

void rundir_remove(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;
	_cleanup_fd_ int parent = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (parent >= 0)
		(void)fd_remove_tree(parent, slash + 1);
}

bool rundir_id(char *name)
{
	size_t len = strlen(name), begin = strlen(BEGIN), end = strlen(END);

	if (len <= begin + end || strncmp(name, BEGIN, begin) != 0 || name[len - end] != '-')
		return false;
	name[len - end] = '\0';
	memmove(name, name + begin, len - begin - end + 1);
	return attach_id_check(name, NULL) == 0;
}

/* --- what was left behind --- */

/* Locked, if nobody has it. */
static int lock_orphan(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_mtime > time(NULL) - YOUNG_S)
		return -EAGAIN;
	return take_fd(&fd);
}

static bool is_attached(const struct json *rows, const char *id)
{
	for (size_t i = 0; i < json_count(rows); i++) {
		const struct json *c = json_get(json_at(rows, i), "container");
		const char *has = json_get_str(c, "id");

		if (has && strcmp(has, id) == 0)
			return true;
	}
	return false;
}

struct collection {
	const struct json *rows;  /* what `status` says; borrowed */
	struct rundir_gone *gone; /* borrowed */
};

static int collect_one(void *ctx, int dir, const char *name)
{
	const struct collection *c = ctx;
	struct rundir_gone *ret = c->gone;
	char id[LIMIT_NAME];
	_cleanup_fd_ int lock = -1;
	void *more;

	snprintf(id, sizeof(id), "%s", name);
	if (!rundir_id(id) || is_attached(c->rows, id))
		return 0;
	lock = lock_orphan(dir, name);
	if (lock < 0 || container_known(id))
		return 0;
	more = reallocarray(ret->v, ret->n + 1, sizeof(*ret->v));
	if (!more)
		return -ENOMEM;
	ret->v = more;
	if (fd_remove_tree(dir, name) == 0)
		snprintf(ret->v[ret->n++], LIMIT_NAME, "%s", name);
	return 0;
}

/* One that others can write to is not where `tarn run` keeps anything. */
static int open_rundir(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022))
		return -1;
	return take_fd(&fd);
}

int rundir_collect(const struct cli *cli, struct rundir_gone *ret, struct err *e)
{
	_cleanup_request_ struct request rq = {0};
	_cleanup_answer_ struct answer a = {0};
	struct collection c = {.gone = ret};
	int dir, r = request_open(&rq, "status", e);

	if (r == 0)
		r = ask(cli, &rq, &a, e);
	if (r < 0)
		return r;
	dir = open_rundir(private_rundir());
	if (dir < 0)
		return 0;
	c.rows = a.rows;
	r = fd_each_entry(dir, collect_one, &c);
	return r < 0 ? err_errno(e, r, "bundles in %.300s", private_rundir()) : 0;
}

void rundir_gone_free(struct rundir_gone *g)
{
	free(g->v);
	*g = (struct rundir_gone){.n = 0};
}
