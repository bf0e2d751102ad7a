/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cli/known.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/limits.h"
#include "plugin/cli/tool.h"

/*
 * Where runtimes and engines keep what they know of a container, stopped ones too; %s is its id.
 * A writable layer whose id is in none of them belongs to nobody any more.
 */
static const char *const places[] = {
	"/run/runc/%s",
	"/run/crun/%s",
	"/run/docker/runtime-runc/moby/%s",
	"/run/containerd/runc/default/%s",
	"/run/containerd/runc/k8s.io/%s",
	"/run/containerd/io.containerd.runtime.v2.task/default/%s",
	"/run/containerd/io.containerd.runtime.v2.task/moby/%s",
	"/run/containerd/io.containerd.runtime.v2.task/k8s.io/%s",
	"/var/lib/docker/containers/%s",
	"/var/lib/containers/storage/overlay-containers/%s",
	"/var/lib/containers/storage/vfs-containers/%s",
	"/run/containers/storage/overlay-containers/%s",
};

bool runtime_knows(const char *id)
{
	char path[LIMIT_PATH];

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		const char *at = strstr(places[i], "%s");

		snprintf(path, sizeof(path), "%.*s%s", (int)(at - places[i]), places[i], id);
		if (access(path, F_OK) == 0 || errno != ENOENT)
			return true;
	}
	return false;
}

/* podman's storage may be elsewhere: it is asked, and only a clear no is one. */
static bool podman_has(const char *id)
{
	const char *const argv[] = {"podman", "container", "exists", id, NULL};
	int r = tool_run(argv, NULL, NULL);

	return r != 1 && r != -ENOENT;
}

bool container_known(const char *id)
{
	return runtime_knows(id) || podman_has(id);
}
