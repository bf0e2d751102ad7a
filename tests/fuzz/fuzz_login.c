/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/ref.h"
#include "plugin/cli/login.c"

/* What may come of it: both or none, and no name with a colon, which would change the meaning. */
static void look(const char *source)
{
	_cleanup_free_ char *user = NULL, *secret = NULL;
	struct err e = ERR_INIT;
	struct ref ref;

	if (ref_parse(source, &ref, NULL) < 0)
		abort();
	if (login_find(&ref, &user, &secret, &e) < 0 && (!*e.text || strchr(e.text, '\n')))
		abort();
	if (!user != !secret || (user && strchr(user, ':')))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An auth.json of podman or docker, which other programs write. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("auth.json", MFD_CLOEXEC);
	char path[32];

	if (fd < 0 || fd_write_full(fd, data, size) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (setenv("REGISTRY_AUTH_FILE", path, 1) < 0)
		abort();
	look("registry.example:5000/team/app:v1");
	look("docker.io/library/debian");
	return 0;
}
