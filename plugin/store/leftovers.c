/* SPDX-License-Identifier: Apache-2.0 */
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

struct listing {
	const char *suffix; /* of the names that count */
	struct digest scope;
	int out; /* borrowed */
};

/* What is not there, or no directory, holds no entries. */
static int each(int parent, const char *dir, fd_entry_fn *fn, void *ctx)
{
	int fd = fd_open_beneath(parent, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);

	return fd == -ENOENT || fd == -ENOTDIR ? 0 : fd_each_entry(fd, fn, ctx);
}

static bool is_digest(const char *name, const char *suffix, struct digest *ret)
{
	return strlen(name) == DIGEST_HEX + strlen(suffix) &&
	       strcmp(name + DIGEST_HEX, suffix) == 0 &&
	       digest_parse_hex(name, DIGEST_HEX, ret) == 0;
}

static int list_digest(void *ctx, int dir, const char *name)
{
	const struct listing *l = ctx;
	struct keep_found f = {.scope = l->scope};

	return is_digest(name, l->suffix, &f.key) ? fd_write_full(l->out, &f, sizeof(f)) : 0;
}

/* Entries "<digest><suffix>" of a directory. */
static int list_digests(int store, const char *dir, const char *suffix, int out)
{
	struct listing l = {.suffix = suffix, .out = out};

	return each(store, dir, list_digest, &l);
}

static int list_scope(void *ctx, int dir, const char *name)
{
	struct listing l = {.suffix = "", .out = *(const int *)ctx};

	if (!is_digest(name, "", &l.scope))
		return 0;
	/* Its last layer may have gone. Requests are served one at a time: nobody is just about to
	 * put another one there. */
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0)
		return 0;
	return each(dir, name, list_digest, &l);
}

static int list_layers(int store, int out)
{
	int r = list_digests(store, "layers", "", out);

	return r < 0 ? r : each(store, "unproven", list_scope, &out);
}

static int list_container(void *ctx, int dir, const char *name)
{
	struct keep_found f = {.id = ""};

	if (!store_id_valid(name))
		return 0;
	memcpy(f.id, name, strlen(name)); /* shorter than LIMIT_ID: it is valid */
	return fd_write_full(*(const int *)ctx, &f, sizeof(f));
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
		r = list_digests(store, "blobs/sha256", "", out);
		break;
	case KEEP_PARENTS:
		r = list_digests(store, "images", ".erofs", out);
		break;
	case KEEP_CONTAINER:
		r = each(store, "containers", list_container, &out);
		break;
	default:
		return err_set(e, -EINVAL, "no listing of kind %u", kind);
	}
	return r < 0 ? err_errno(e, r, "store: listing") : take_fd(&out);
}
