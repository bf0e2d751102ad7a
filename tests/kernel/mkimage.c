/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkimage [-l LIST | -b LIST] TAR IMAGE [DIR]: the index image of a plain tar, as tarn would make
 * it, and its mount on DIR over that tar. mount(8) can not do the latter: it puts a loop device in
 * between. The image is judged by the tests' own strict reader before the kernel gets to see it.
 * With -l it is made of an entry list (tests/unit/entry_list.h), with -b of one in bytes
 * (tests/fuzz/fuzz_erofs.c), and TAR is only data.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/erofs/image.h"
#include "oci/index/tarscan.h"
#include "oci/stream.h"
#include "tests/unit/entry_list.h"
#include "tests/unit/erofs_check.h"

static int scan(int tar, const char *what, uint64_t size, struct buf *toc, uint64_t *ret_nentries,
		struct err *e)
{
	_cleanup_(stream_freep) struct stream *in = NULL;
	int r = stream_of_fd(tar, 0, size, &in);

	if (r < 0)
		return err_errno(e, r, "%s", what);
	return tarscan(in, what, toc, ret_nentries, e);
}

static int read_list(const char *path, struct buf *toc, uint64_t *ret_nentries, struct err *e)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_buf_ struct buf text = {.max = 1 << 20};
	static struct entry_line line;
	const char *list;
	uint64_t n = 0;

	if (fd < 0 || fd_read_all(fd, &text) < 0)
		return err_set(e, -EIO, "cannot read '%s'", path);
	for (list = buf_cstr(&text); list && entry_list_next(&list, &line); n++)
		if (toc_put(toc, &line.entry) < 0)
			return err_set(e, -EINVAL, "not a legal entry: '%s'", line.path);
	*ret_nentries = n;
	return 0;
}

static int read_bytes(const char *path, struct buf *raw, struct index *ix, struct err *e)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct bytes in;

	if (fd < 0 || fd_read_all(fd, raw) < 0)
		return err_set(e, -EIO, "cannot read '%s'", path);
	in = bytes_of(raw->data, raw->len);
	ix->nentries = bytes_le32(&in);
	ix->tar_size = bytes_le64(&in);
	if (!bytes_ok(&in))
		return err_set(e, -EINVAL, "a list without its head");
	ix->toc = in.p;
	ix->toc_len = in.left;
	return 0;
}

static int check(int image, uint64_t tar_size, struct err *e)
{
	_cleanup_buf_ struct buf bytes = {.max = SIZE_MAX};
	struct extents x;
	const char *why;
	int r;

	r = fd_read_all(image, &bytes);
	if (r < 0)
		return err_errno(e, r, "cannot read the image");
	why = erofs_check(bytes.data, bytes.len, tar_size);
	if (why)
		return err_set(e, -EBADMSG, "not a sound image: %s", why);
	r = extents_load(image, &x, e);
	if (r == 0)
		extents_free(&x);
	return r;
}

static int write_image(const struct index *ix, const char *what, int image, struct err *e)
{
	int r = erofs_image_write(ix, what, image, e);

	return r < 0 ? r : check(image, ix->tar_size, e);
}

/* @how is 'l' or 'b', for what @list is, or 0. */
static int make(int how, const char *list, const char *tar_path, const char *image_path,
		struct err *e)
{
	_cleanup_fd_ int tar = open(tar_path, O_RDONLY | O_CLOEXEC);
	_cleanup_fd_ int image = open(image_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	_cleanup_buf_ struct buf toc = {.max = LIMIT_TOC};
	struct index ix = {.span_size = LIMIT_SPAN_MAX};
	struct stat st;
	int r;

	if (tar < 0 || image < 0 || fstat(tar, &st) < 0)
		return err_errno(e, -errno, "cannot open '%s' and '%s'", tar_path, image_path);
	ix.tar_size = (uint64_t)st.st_size;
	if (how == 'b') {
		r = read_bytes(list, &toc, &ix, e);
		return r < 0 ? r : write_image(&ix, tar_path, image, e);
	}
	r = how == 'l' ? read_list(list, &toc, &ix.nentries, e)
		       : scan(tar, tar_path, ix.tar_size, &toc, &ix.nentries, e);
	ix.toc = toc.data;
	ix.toc_len = toc.len;
	return r < 0 ? r : write_image(&ix, tar_path, image, e);
}

static int mount_image(const char *tar_path, const char *image_path, const char *dir, struct err *e)
{
	_cleanup_free_ char *options = NULL;

	if (asprintf(&options, "device=%s", tar_path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (mount(image_path, dir, "erofs", MS_RDONLY, options) < 0)
		return err_errno(e, -errno, "cannot mount '%s'", image_path);
	return 0;
}

int main(int argc, char **argv)
{
	const char *list = NULL;
	struct err e = ERR_INIT;
	int how = 0, r;

	if (argc > 2 && (strcmp(argv[1], "-l") == 0 || strcmp(argv[1], "-b") == 0)) {
		how = argv[1][1];
		list = argv[2];
		argv += 2;
		argc -= 2;
	}
	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: mkimage [-l LIST | -b LIST] TAR IMAGE [DIR]\n");
		return 2;
	}
	r = make(how, list, argv[1], argv[2], &e);
	if (r == 0 && argc == 4)
		r = mount_image(argv[1], argv[2], argv[3], &e);
	if (r < 0)
		fprintf(stderr, "mkimage: %s\n", e.text);
	return r < 0;
}
