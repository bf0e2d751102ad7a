/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/store/files.h"

/* The keeper's side of looking for what nobody needs: what there is, by name alone. */

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

static DIR *open_list(int parent, const char *name)
{
	int fd = fd_open_beneath(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && !d)
		close(fd);
	return d;
}

static bool is_digest(const char *name, const char *suffix, struct digest *ret)
{
	return strlen(name) == DIGEST_HEX + strlen(suffix) &&
	       strcmp(name + DIGEST_HEX, suffix) == 0 &&
	       digest_parse_hex(name, DIGEST_HEX, ret) == 0;
}

/* Entries "<digest><suffix>" of a directory; no directory holds none. */
static int list_digests(int parent, const char *dir, const char *suffix, const struct digest *scope,
			int out)
{
	_cleanup_(closedirp) DIR *d = open_list(parent, dir);
	int r = 0;

	for (struct dirent *de = d ? readdir(d) : NULL; de && r == 0; de = readdir(d)) {
		struct keep_found f = {.id = ""};

		if (scope)
			f.scope = *scope;
		if (is_digest(de->d_name, suffix, &f.key))
			r = fd_write_full(out, &f, sizeof(f));
	}
	return r;
}

static int list_layers(int store, int out)
{
	_cleanup_(closedirp) DIR *d = open_list(store, "unproven");
	int r = list_digests(store, "layers", "", NULL, out);

	for (struct dirent *de = d ? readdir(d) : NULL; de && r == 0; de = readdir(d)) {
		struct digest scope;

		if (!is_digest(de->d_name, "", &scope))
			continue;
		/* Its last layer may have gone. Requests are served one at a time: nobody is just
		 * about to put another one there. */
		if (unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR) < 0)
			r = list_digests(dirfd(d), de->d_name, "", &scope, out);
	}
	return r;
}

static int list_containers(int store, int out)
{
	_cleanup_(closedirp) DIR *d = open_list(store, "containers");
	int r = 0;

	for (struct dirent *de = d ? readdir(d) : NULL; de && r == 0; de = readdir(d)) {
		struct keep_found f = {.id = ""};

		if (!store_id_valid(de->d_name))
			continue;
		memcpy(f.id, de->d_name,
		       strlen(de->d_name)); /* shorter than LIMIT_ID: it is valid */
		r = fd_write_full(out, &f, sizeof(f));
	}
	return r;
}

int store_leftovers(int store, uint32_t kind, struct err *e)
{
	_cleanup_fd_ int out = memfd_create("tarn-list", MFD_CLOEXEC);
	int r;

	if (out < 0)
		return err_errno(e, -errno, "store: listing");
	switch (kind) {
	case KEEP_TAR:
		r = list_layers(store, out);
		break;
	case KEEP_BLOB:
		r = list_digests(store, "blobs/sha256", "", NULL, out);
		break;
	case KEEP_PARENTS:
		r = list_digests(store, "images", ".erofs", NULL, out);
		break;
	case KEEP_CONTAINER:
		r = list_containers(store, out);
		break;
	default:
		return err_set(e, -EINVAL, "no listing of kind %u", kind);
	}
	return r < 0 ? err_errno(e, r, "store: listing") : take_fd(&out);
}
