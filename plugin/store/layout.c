/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/store/layout.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/engine.h"

static int layout_open(struct engine *en, const char *dir, enum keep_layout_file which,
		       const struct digest *digest, int *ret_fd, struct stat *ret_st, struct err *e)
{
	struct keep_request req = {.op = KEEP_LAYOUT_OPEN, .layout.which = which};
	_cleanup_fd_ int fd = -1;
	struct keep_reply rep;
	int r;

	if (digest)
		req.layout.digest = *digest;
	snprintf(req.layout.dir, sizeof(req.layout.dir), "%s", dir);
	r = keep_call(en->keep, &req, &rep, &fd, 1, e);
	if (r < 0)
		return r;
	if (fd < 0 || fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode))
		return err_set(e, -EINVAL, "oci:%.200s: not a file", dir);
	*ret_fd = take_fd(&fd);
	return 0;
}

int layout_blob_open(struct engine *en, const char *dir, const struct digest *digest, uint64_t size,
		     int *ret_fd, struct err *e)
{
	_cleanup_fd_ int fd = -1;
	char text[DIGEST_TEXT];
	struct stat st;
	int r;

	r = layout_open(en, dir, KEEP_LAYOUT_BLOB, digest, &fd, &st, e);
	if (r < 0)
		return r;
	if ((uint64_t)st.st_size != size)
		return err_set(e, -EBADMSG,
			       "oci:%.200s: blob %s has %" PRIu64 " bytes where its manifest "
			       "says %" PRIu64,
			       dir, digest_text(digest, text), (uint64_t)st.st_size, size);
	*ret_fd = take_fd(&fd);
	return 0;
}

int layout_read(struct engine *en, const char *dir, enum keep_layout_file which, struct buf *out,
		struct err *e)
{
	_cleanup_fd_ int fd = -1;
	struct stat st;
	int r;

	r = layout_open(en, dir, which, NULL, &fd, &st, e);
	if (r < 0)
		return r;
	r = fd_read_all(fd, out);
	return r < 0 ? err_errno(e, r, "oci:%.200s: %s", dir,
				 which == KEEP_LAYOUT_VERSION ? "oci-layout" : "index.json")
		     : 0;
}

/* Parsing would be for the fetcher, and there is nothing else in it: only this is looked for. */
static bool is_version_1(const struct buf *text)
{
	static const char key[] = "\"imageLayoutVersion\"", value[] = "\"1.";
	static const char between[] = " \t\r\n:";
	const char *end = (const char *)text->data + text->len, *p = NULL;

	if (text->len)
		p = memmem(text->data, text->len, key, strlen(key));
	for (p = p ? p + strlen(key) : end; p < end && memchr(between, *p, strlen(between)); p++)
		;
	return (size_t)(end - p) >= strlen(value) && memcmp(p, value, strlen(value)) == 0;
}

int layout_check_version(struct engine *en, const char *dir, struct err *e)
{
	_cleanup_buf_ struct buf text;
	int r;

	buf_init(&text, 4096);
	r = layout_read(en, dir, KEEP_LAYOUT_VERSION, &text, e);
	if (r == 0 && !is_version_1(&text))
		return err_set(e, -EINVAL, "oci:%.200s: not an OCI image layout of version 1", dir);
	return r;
}
