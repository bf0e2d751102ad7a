/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/inits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks/mountinfo.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/ctl/proc.h"

/* Where the store has what a container writes: STORE/containers/ID/upper. */
#define BEFORE "/containers/"
#define BEHIND "/upper"

int inits_id(const char *options, char out[LIMIT_ID])
{
	const char *p = strstr(options, ",upperdir="), *end, *id = NULL;
	size_t len;

	if (!p)
		return -ENOENT;
	p++;
	end = p + strcspn(p, ",");
	/* The last one counts: the path of the store may have anything in it. */
	for (const char *q = strstr(p, BEFORE); q && q < end; q = strstr(q + 1, BEFORE))
		id = q + strlen(BEFORE);
	len = id ? strcspn(id, "/,") : 0;
	if (len == 0 || len >= LIMIT_ID || id + len + strlen(BEHIND) != end ||
	    strncmp(id + len, BEHIND, strlen(BEHIND)) != 0)
		return -ENOENT;
	snprintf(out, LIMIT_ID, "%.*s", (int)len, id);
	return 0;
}

static void add(struct inits *in, const struct init *one)
{
	struct init *more;

	for (size_t i = 0; i < in->n; i++) {
		struct init *old = &in->v[i];

		if (strcmp(old->id, one->id) != 0 || strcmp(old->dev, one->dev) != 0)
			continue;
		if (one->start < old->start || (one->start == old->start && one->pid < old->pid))
			*old = *one;
		return;
	}
	more = reallocarray(in->v, in->n + 1, sizeof(*more));
	if (!more)
		return;
	in->v = more;
	in->v[in->n++] = *one;
}

/* What is mounted at the root directory of the process whose /proc directory is open. */
static int look_at_root(int proc, struct init *one)
{
	struct mounttab tab = {0};
	const struct mountinfo *m;
	int r = mounttab_read(proc, &tab, NULL);

	if (r < 0)
		return r;
	m = mounttab_top(&tab, "/");
	r = -ENOENT;
	if (m && strcmp(m->fstype, "overlay") == 0 && strcmp(m->root, "/") == 0)
		r = inits_id(m->super, one->id);
	if (r == 0)
		snprintf(one->dev, sizeof(one->dev), "%s", m->dev);
	mounttab_free(&tab);
	return r;
}

struct search {
	ino_t ours; /* our mount namespace */
	struct inits *ret;
};

/* Most processes of a host share our mounts: they need not be read. */
static int look_at_process(void *ctx, int all, const char *name)
{
	const struct search *s = ctx;
	const bool is_process = name[0] >= '1' && name[0] <= '9';
	_cleanup_fd_ int proc =
		is_process ? openat(all, name, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct init one = {.pid = (int32_t)strtol(name, NULL, 10)};
	struct stat ns;

	if (proc < 0 || fstatat(proc, "ns/mnt", &ns, 0) < 0 || ns.st_ino == s->ours)
		return 0;
	if (look_at_root(proc, &one) == 0 && proc_start(one.pid, &one.start) == 0)
		add(s->ret, &one);
	return 0;
}

void inits_find(struct inits *ret)
{
	struct search s = {.ret = ret};
	struct stat ns;

	*ret = (struct inits){.n = 0};
	if (stat("/proc/self/ns/mnt", &ns) < 0)
		return;
	s.ours = ns.st_ino;
	fd_each_entry(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), look_at_process, &s);
}

void inits_free(struct inits *in)
{
	free(in->v);
	*in = (struct inits){.n = 0};
}

int32_t inits_pid(const struct inits *in, const char *id)
{
	int32_t pid = 0;

	for (size_t i = 0; i < in->n; i++) {
		if (strcmp(in->v[i].id, id) != 0)
			continue;
		if (pid)
			return 0;
		pid = in->v[i].pid;
	}
	return pid;
}
