/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd N EXPECTED FILE: N threads read a page of FILE each, all different and all at once, and
 * compare it with EXPECTED. Prints a line of JSON; exit status 0 when every one was right.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE  4096
#define STACK (64u << 10)
#define MAX   20000

static int known, found;
static off_t stride;
static pthread_barrier_t gate;
static _Atomic unsigned right, wrong, failed;

static void *read_page(void *arg)
{
	off_t at = (off_t)(size_t)arg * stride;
	unsigned char expected[PAGE], buf[PAGE];
	ssize_t n;

	if (pread(known, expected, PAGE, at) != PAGE)
		exit(2);
	pthread_barrier_wait(&gate);
	n = pread(found, buf, PAGE, at);
	if (n != PAGE) {
		failed++;
		fprintf(stderr, "crowd: at %lld: %s\n", (long long)at,
			n < 0 ? strerror(errno) : "an early end");
	} else if (memcmp(buf, expected, PAGE) != 0) {
		wrong++;
		fprintf(stderr, "crowd: wrong bytes at %lld\n", (long long)at);
	} else {
		right++;
	}
	return NULL;
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		perror(path);
		exit(2);
	}
	return fd;
}

int main(int argc, char **argv)
{
	static pthread_t thread[MAX];
	unsigned n = argc == 4 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	pthread_attr_t attr;
	struct stat st;

	if (n == 0 || n > MAX) {
		fprintf(stderr, "usage: crowd N EXPECTED FILE\n");
		return 2;
	}
	known = open_file(argv[2]);
	found = open_file(argv[3]);
	if (fstat(known, &st) < 0 || st.st_size / PAGE < n) {
		fprintf(stderr, "crowd: %s is too small\n", argv[2]);
		return 2;
	}
	stride = st.st_size / PAGE / n * PAGE;
	/* A page is a page: nobody is served by another one's read-ahead. */
	posix_fadvise(found, 0, 0, POSIX_FADV_RANDOM);
	pthread_barrier_init(&gate, NULL, n);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	for (size_t i = 0; i < n; i++) {
		if (pthread_create(&thread[i], &attr, read_page, (void *)i) != 0) {
			fprintf(stderr, "crowd: no more than %zu threads\n", i);
			return 2;
		}
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	printf("{\"readers\":%u,\"right\":%u,\"wrong\":%u,\"errors\":%u}\n", n, right, wrong,
	       failed);
	return right == n ? 0 : 1;
}
