/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hooks/edit.h"
#include "hooks/spec.h"
#include "hooks/state.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "oci/bundle.h"
#include "plugin/store/files.h"

static char bundle[] = "/tmp/fuzz-state-XXXXXX";
static int bundle_fd = -1;

static void remove_bundle(void)
{
	unlinkat(bundle_fd, "config.json", 0);
	rmdir(bundle);
}

static void make_bundle(void)
{
	if (bundle_fd >= 0)
		return;
	if (!mkdtemp(bundle))
		abort();
	bundle_fd = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (bundle_fd < 0 || atexit(remove_bundle) != 0)
		abort();
}

/* A refusal says why, in one line. */
static bool accepted(int r, const struct err *e)
{
	if (r < 0 && (!*e->text || strchr(e->text, '\n')))
		abort();
	return r >= 0;
}

/* What the hook takes for an id tarnd takes, too: its writable layer is a directory of that name.
 */
static void state(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("state", MFD_CLOEXEC);
	_cleanup_state_ struct state st = {0};
	struct err e = ERR_INIT;

	if (fd < 0 || fd_write_full(fd, data, size) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	if (!accepted(state_read(fd, &st, &e), &e))
		return;
	if (!store_id_valid(st.id) || st.bundle[0] != '/' || st.pid < 0)
		abort();
}

/* As tarn-runtime rewrites it: read again it is for us, and rewriting changes nothing more. */
static void rewrite(const struct spec *s)
{
	const struct edit_annotation set[] = {{ANNOTATION_ATTACHED, "runtime"},
					      {ANNOTATION_ROOTFS, s->root}};
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf first, second;
	struct err e = ERR_INIT;
	const char *path;

	buf_init(&first, SIZE_MAX);
	buf_init(&second, SIZE_MAX);
	if (edit_config(s->doc, "/run/x", set, 2, &first, &e) < 0)
		abort();
	if (json_parse(first.data, first.len, SIZE_MAX, "copy", &doc, &e) < 0)
		abort();
	path = json_get_str(json_get(doc, "root"), "path");
	if (!path || strcmp(path, "/run/x") != 0)
		abort();
	if (edit_config(doc, "/run/x", set, 2, &second, &e) < 0 || first.len != second.len ||
	    memcmp(first.data, second.data, first.len) != 0)
		abort();
}

static void config(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd =
		openat(bundle_fd, "config.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	_cleanup_spec_ struct spec s = SPEC_INIT;
	_cleanup_free_ char *root = NULL;
	struct err e = ERR_INIT;
	char text[DIGEST_TEXT];

	if (fd < 0 || fd_write_full(fd, data, size) < 0)
		abort();
	if (!accepted(spec_open(bundle, &s, &e), &e))
		return;
	rewrite(&s);
	if (!s.image)
		return;
	if (accepted(spec_check(&s, &e), &e) && strcmp(digest_text(&s.digest, text), s.image) != 0)
		abort();
	e = (struct err)ERR_INIT;
	if (accepted(spec_root_path(&s, &root, &e), &e) && root[0] != '/')
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a runtime hands to a hook: the state on stdin, and the bundle's config.json. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	make_bundle();
	state(data, size);
	config(data, size);
	return 0;
}
