/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"

/*
 * Runs a fuzz target once over every file named on the command line, so that the samples are
 * regression tests with any compiler. Prints TAP; a target that finds fault aborts.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ uint8_t *exact = NULL;
	_cleanup_buf_ struct buf b;
	int r;

	buf_init(&b, 64u << 20);
	r = fd < 0 ? -errno : fd_read_all(fd, &b);
	if (r < 0)
		return r;
	/* In an allocation of its very size, so that a sanitizer sees a read past the end. */
	exact = malloc(b.len ? b.len : 1);
	if (!exact)
		return -ENOMEM;
	if (b.len)
		memcpy(exact, b.data, b.len);
	LLVMFuzzerTestOneInput(exact, b.len);
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("1..%d\n", argc - 1);
	for (int i = 1; i < argc; i++) {
		int r;

		/* Before the run: a crash is then under the name of its sample. */
		printf("# %s\n", argv[i]);
		r = replay(argv[i]);
		if (r < 0) {
			failed = 1;
			printf("not ok %d - %s: %s\n", i, argv[i], err_words(r));
		} else {
			printf("ok %d - %s\n", i, argv[i]);
		}
	}
	/* No samples at all is a broken call and no success. */
	return failed || argc < 2;
}
