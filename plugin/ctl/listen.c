/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ctl/listen.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/* Of a socket whose owner is gone the name stays, and connecting to it is refused. */
static int make_way(const struct sockaddr_un *a, struct err *e)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;

	if (lstat(a->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "socket %s", a->sun_path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, -EEXIST, "socket %s: a file that is no socket is there",
			       a->sun_path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, -errno, "socket %s", a->sun_path);
	if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno != ECONNREFUSED)
		return err_set(e, -EADDRINUSE,
			       "socket %s: another process answers there; stop it, or name another "
			       "socket with --socket",
			       a->sun_path);
	if (unlink(a->sun_path) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "socket %s", a->sun_path);
	return 0;
}

static void make_dir(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		mkdir(dir, 0755);
	}
}

int ctl_group(const char *name, gid_t *ret, struct err *e)
{
	const struct group *gr = getgrnam(name);

	if (!gr)
		return err_set(e, -ENOENT, "socket.group: there is no group %s", name);
	*ret = gr->gr_gid;
	return 0;
}

int ctl_listen(const char *path, const char *group, struct err *e)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const bool shared = *group != '\0';
	gid_t gid = 0;
	int r;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG, "socket %s: the path is too long", path);
	r = shared ? ctl_group(group, &gid, e) : 0;
	if (r < 0)
		return r;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	make_dir(path);
	r = make_way(&a, e);
	if (r < 0)
		return r;
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    chmod(path, shared ? 0660 : 0600) < 0 || (shared && chown(path, 0, gid) < 0) ||
	    listen(fd, 128) < 0)
		return err_errno(e, -errno, "socket %s", path);
	return take_fd(&fd);
}

/* #syscalls engine: shutdown */
void ctl_listen_end(int fd)
{
	if (fd >= 0)
		shutdown(fd, SHUT_RDWR);
}
