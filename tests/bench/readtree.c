/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readtree DIR: reads every regular file below DIR, in the order of the
 * directories. Prints "files bytes nanoseconds". What it reads is not looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

#define BUFFER   (128u << 10) /* what cp and tar read at once */
#define WALK_FDS 32

static uint64_t files, bytes;
static char buffer[BUFFER];

static int read_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	_cleanup_fd_ int fd = -1;
	ssize_t n;

	if (type == FTW_DNR || type == FTW_NS) {
		fprintf(stderr, "readtree: %s cannot be read\n", path);
		return -1;
	}
	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (n = fd < 0 ? -1 : 1; n > 0; bytes += n > 0 ? (uint64_t)n : 0)
		n = read(fd, buffer, sizeof(buffer));
	if (n < 0) {
		fprintf(stderr, "readtree: %s: %s\n", path, err_words(errno));
		return -1;
	}
	files++;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	uint64_t start = now_ns();

	if (argc != 2) {
		fputs("usage: readtree DIR\n", stderr);
		return 2;
	}
	if (nftw(argv[1], read_one, WALK_FDS, FTW_PHYS) != 0)
		return 1;
	printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", files, bytes, now_ns() - start);
	return 0;
}
