/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/ref.h"
#include "plugin/cli/login.c"
#include "plugin/cli/login_helper.c"

static const uint8_t *input;
static size_t input_len;

/* No program is run: a helper answers with the file itself, or says it as its reason to fail. */
int tool_run(const char *const *argv, const char *in, struct buf *out)
{
	if (strchr(argv[0], '/') || strcmp(argv[1], "get") != 0 || argv[2])
		abort();
	buf_put(out, input, input_len < out->max ? input_len : out->max);
	return input_len % 2;
}

/* What may come of it: both or none, and a reason in one line. */
static void look(const char *source)
{
	_cleanup_(login_done) struct login login = {.user = NULL};
	struct err e = ERR_INIT;
	struct ref ref;
	int r;

	if (ref_parse(source, &ref, NULL) < 0)
		abort();
	r = login_find(&ref, NULL, &login, &e);
	if (r < 0 && (!*e.text || strchr(e.text, '\n')))
		abort();
	if ((r > 0) != (login.user && login.secret))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An auth.json of podman or docker, which other programs write. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("auth.json", MFD_CLOEXEC);
	char path[32];

	input = data;
	input_len = size;
	if (fd < 0 || fd_write_full(fd, data, size) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (setenv("REGISTRY_AUTH_FILE", path, 1) < 0)
		abort();
	look("registry.example:5000/team/app:v1");
	look("docker.io/library/debian");
	return 0;
}
