/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/digest.h"

#define PROC "/proc"

/*
 * The first @size - 1 bytes of a file of a process. /proc is the engine's root directory
 * (isolate.c), and not tarn's.
 *
 * #syscalls engine: openat@2/(O_ACCMODE|O_CREAT|O_TRUNC)=O_RDONLY read
 */
static int read_text(int32_t pid, const char *name, char *out, size_t size)
{
	_cleanup_fd_ int fd = -1;
	char path[64];
	ssize_t n;

	out[0] = '\0';
	snprintf(path, sizeof(path), PROC "/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		fd = open(path + strlen(PROC), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, out, size - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

void proc_comm(int32_t pid, char out[PROC_COMM])
{
	read_text(pid, "comm", out, PROC_COMM);
	out[strcspn(out, "\n")] = '\0';
}

/* 64 hex digits that are not part of a longer run. */
static const char *find_id(const char *p, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = strspn(p + i, "0123456789abcdef");

		if (n == DIGEST_HEX)
			return p + i;
		i += n > 0 ? n : 1;
	}
	return NULL;
}

/* Groups of services, users and the root say nothing about a container. */
static int is_plain(const char *name, size_t len)
{
	static const char *const ends[] = {".service", ".slice", "init.scope", "user.slice"};

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		size_t n = strlen(ends[i]);

		if (len >= n && strncmp(name + len - n, ends[i], n) == 0)
			return 1;
	}
	return len == 0 || (len > 8 && strncmp(name, "session-", 8) == 0);
}

/* "crun-ID.scope", "libpod-ID.scope", "ID" */
static void take_name(const char *name, size_t len, char out[PROC_CONTAINER])
{
	static const char *const begins[] = {"crun-",   "runc-", "libpod-",
					     "docker-", "crio-", "cri-containerd-"};

	if (len > 6 && strncmp(name + len - 6, ".scope", 6) == 0)
		len -= 6;
	for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
		size_t n = strlen(begins[i]);

		if (len > n && strncmp(name, begins[i], n) == 0) {
			name += n;
			len -= n;
			break;
		}
	}
	snprintf(out, PROC_CONTAINER, "%.*s", (int)len, name);
}

void cgroup_container(const char *text, char out[PROC_CONTAINER])
{
	out[0] = '\0';
	while (*text) {
		size_t len = strcspn(text, "\n");
		const char *id = find_id(text, len), *last = text;

		if (id) {
			snprintf(out, PROC_CONTAINER, "%.*s", DIGEST_HEX, id);
			return;
		}
		for (size_t i = 0; i < len; i++)
			if (text[i] == '/')
				last = text + i + 1;
		if (!out[0] && last > text && !is_plain(last, len - (size_t)(last - text)))
			take_name(last, len - (size_t)(last - text), out);
		text += len + (text[len] == '\n');
	}
}

void proc_container(int32_t pid, char out[PROC_CONTAINER])
{
	char text[8192];

	read_text(pid, "cgroup", text, sizeof(text));
	cgroup_container(text, out);
}

/*
 * Not even root's own without rights may list another's descriptors, but their number is the size
 * of the directory (proc_pid_fd(5)).
 *
 * #syscalls engine: newfstatat
 */
int proc_usage(int32_t pid, uint64_t *ret_fds, uint64_t *ret_rss)
{
	long page = sysconf(_SC_PAGESIZE);
	char text[256], path[32], *p;
	uint64_t resident, shared;
	struct stat st;
	int r = read_text(pid, "statm", text, sizeof(text));

	if (r < 0)
		return r;
	/* All pages, those that are resident, those of them that are not of it alone. */
	p = strchr(text, ' ');
	resident = p ? strtoull(p + 1, &p, 10) : 0;
	shared = resident ? strtoull(p, NULL, 10) : 0;
	if (!resident || shared > resident || page <= 0)
		return -EBADMSG;
	snprintf(path, sizeof(path), PROC "/%d/fd", pid);
	if (stat(path, &st) < 0 && (errno != ENOENT || stat(path + strlen(PROC), &st) < 0))
		return -errno;
	*ret_fds = (uint64_t)st.st_size;
	*ret_rss = (resident - shared) * (uint64_t)page;
	return 0;
}

int proc_start(int32_t pid, uint64_t *ret)
{
	char text[1024], *p, *end;
	unsigned long long ticks;
	int r = read_text(pid, "stat", text, sizeof(text));

	if (r < 0)
		return r;
	/* Field 22, starttime; the 2nd, in brackets, may hold anything (proc(5)). */
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EBADMSG;
	ticks = strtoull(p + 1, &end, 10);
	if (end == p + 1)
		return -EBADMSG;
	*ret = ticks;
	return 0;
}

int proc_age_s(int32_t pid, uint64_t *ret)
{
	long hz = sysconf(_SC_CLK_TCK);
	struct timespec now;
	uint64_t ticks;
	int r = proc_start(pid, &ticks);

	if (r < 0)
		return r;
	clock_gettime(CLOCK_BOOTTIME, &now);
	if (hz <= 0 || ticks / (uint64_t)hz > (uint64_t)now.tv_sec)
		return -EBADMSG;
	*ret = (uint64_t)now.tv_sec - ticks / (uint64_t)hz;
	return 0;
}
