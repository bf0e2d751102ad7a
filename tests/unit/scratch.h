/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include <dirent.h>
#include <fcntl.h>
#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/fd.h"

/* What a test has open and on disk while it runs. Include cmocka.h first. */

/* Takes away a directory that mkdtemp(3) made, with what is in it. 0 or -errno. */
static inline int scratch_remove(const char *path)
{
	char parent[256] = {0};
	const char *slash = strrchr(path, '/');
	_cleanup_fd_ int fd = -1;

	assert_true(slash && slash > path && (size_t)(slash - path) < sizeof(parent));
	memcpy(parent, path, (size_t)(slash - path));
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd_remove_tree(fd, slash + 1);
}

/* How many descriptors this process has open; to be compared with what it says later. */
static inline unsigned fds_open(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

#endif
