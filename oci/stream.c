/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/stream.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oci/base/bytes.h"
#include "oci/base/err.h"

int stream_read_full(struct stream *s, void *buf, size_t n, struct err *e)
{
	uint8_t *p = buf;
	size_t done = 0;

	while (done < n) {
		ssize_t r = stream_read(s, p + done, n - done, e);

		if (r < 0)
			return (int)r;
		if (r == 0)
			return err_set(e, -ENODATA, "data ends after %zu of %zu bytes", done, n);
		done += (size_t)r;
	}
	return 0;
}

struct fd_stream {
	struct stream s;
	int fd; /* borrowed */
	uint64_t off;
	uint64_t left;
};

static ssize_t fd_stream_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct fd_stream *f = (struct fd_stream *)s;
	ssize_t r;

	if (n > f->left)
		n = (size_t)f->left;
	if (n == 0)
		return 0;
	do
		r = pread(f->fd, buf, n, (off_t)f->off);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return err_errno(e, -errno, "cannot read at offset %llu",
				 (unsigned long long)f->off);
	if (r == 0)
		return err_set(e, -ENODATA, "file ends at offset %llu, %llu bytes early",
			       (unsigned long long)f->off, (unsigned long long)f->left);
	f->off += (uint64_t)r;
	f->left -= (uint64_t)r;
	return r;
}

static void fd_stream_free(struct stream *s)
{
	free(s);
}

int stream_of_fd(int fd, uint64_t off, uint64_t len, struct stream **ret)
{
	struct fd_stream *f;
	uint64_t end;

	if (!add_ok(off, len, &end) || end > INT64_MAX)
		return -EOVERFLOW;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->s.read = fd_stream_read;
	f->s.free = fd_stream_free;
	f->fd = fd;
	f->off = off;
	f->left = len;
	*ret = &f->s;
	return 0;
}

struct mem_stream {
	struct stream s;
	const uint8_t *p; /* borrowed */
	size_t left;
};

static ssize_t mem_stream_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	struct mem_stream *m = (struct mem_stream *)s;

	if (n > m->left)
		n = m->left;
	if (n > SSIZE_MAX)
		n = SSIZE_MAX;
	if (n == 0)
		return 0;
	memcpy(buf, m->p, n);
	m->p += n;
	m->left -= n;
	return (ssize_t)n;
}

static void mem_stream_free(struct stream *s)
{
	free(s);
}

int stream_of_mem(const void *data, size_t len, struct stream **ret)
{
	struct mem_stream *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->s.read = mem_stream_read;
	m->s.free = mem_stream_free;
	m->p = data;
	m->left = len;
	*ret = &m->s;
	return 0;
}
