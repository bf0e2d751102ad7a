/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/find.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const runtimes[] = {"runc", "crun"};

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool is_self(const char *path)
{
	struct stat own, st;

	return stat("/proc/self/exe", &own) == 0 && stat(path, &st) == 0 &&
	       own.st_dev == st.st_dev && own.st_ino == st.st_ino;
}

/* NULL: not found, or out of memory, which comes to the same here. */
static char *search(const char *name)
{
	const char *path = getenv("PATH");
	size_t len;

	for (path = path && *path ? path : PATH_DEFAULT; *path; path += len + (path[len] == ':')) {
		char *file = NULL;

		len = strcspn(path, ":");
		/* The working directory is the engine's: nothing is started from there. */
		if (len == 0 || path[0] != '/')
			continue;
		if (asprintf(&file, "%.*s/%s", (int)len, path, name) < 0)
			return NULL;
		if (is_program(file) && !is_self(file))
			return file;
		free(file);
	}
	return NULL;
}

static int find_wanted(const char *wanted, char **ret, struct err *e)
{
	char *path = strchr(wanted, '/') ? strdup(wanted) : search(wanted);

	if (!path)
		return err_set(e, -ENOENT, "there is no OCI runtime %.300s on PATH", wanted);
	if (!is_program(path) || is_self(path)) {
		int r = is_self(path)
				? err_set(e, -ELOOP,
					  "%.300s is tarn-runtime itself: name the "
					  "runtime it is to start",
					  path)
				: err_set(e, -ENOENT, "there is no OCI runtime at %.300s", path);

		free(path);
		return r;
	}
	*ret = path;
	return 0;
}

int find_runtime(const char *wanted, const char *self, char **ret, struct err *e)
{
	const char *slash = self ? strrchr(self, '/') : NULL;
	const char *name = slash ? slash + 1 : self;

	if (wanted && *wanted)
		return find_wanted(wanted, ret, e);
	for (size_t i = 0; name && i < ARRAY_LEN(runtimes); i++)
		if (strcmp(name, runtimes[i]) == 0)
			return find_wanted(name, ret, e);
	for (size_t i = 0; i < ARRAY_LEN(runtimes); i++) {
		*ret = search(runtimes[i]);
		if (*ret)
			return 0;
	}
	return err_set(e, -ENOENT,
		       "neither runc nor crun is installed: install one, or name "
		       "another in TARN_RUNTIME");
}

int find_sibling(const char *name, const char *installed, char **ret, struct err *e)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash, *path = NULL;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	if (slash && asprintf(&path, "%.*s/%s", (int)(slash - self), self, name) < 0)
		path = NULL;
	if (path && is_program(path)) {
		*ret = path;
		return 0;
	}
	free(path);
	path = installed && is_program(installed) ? strdup(installed) : search(name);
	if (!path)
		return err_set(e, -ENOENT, "%s is neither beside tarn nor %s%s", name,
			       installed ? "at " : "on PATH", installed ? installed : "");
	*ret = path;
	return 0;
}
