/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_STREAM_H
#define OCI_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

/*
 * A forward-only source of bytes: a range of a file, a range of a registry blob, a decoder's
 * output. The only way bytes reach a decoder or a tar scanner.
 */
struct stream {
	/* Up to @n bytes into @buf: > 0 bytes read, 0 end of the stream, negative errno. */
	ssize_t (*read)(struct stream *s, void *buf, size_t n, struct err *e);
	void (*free)(struct stream *s);
};

static inline ssize_t stream_read(struct stream *s, void *buf, size_t n, struct err *e)
{
	return s->read(s, buf, n, e);
}

static inline struct stream *stream_free(struct stream *s)
{
	if (s)
		s->free(s);
	return NULL;
}

static inline void stream_freep(struct stream **s)
{
	stream_free(*s);
}

/* Exactly @n bytes; the stream ending early is -ENODATA. */
int stream_read_full(struct stream *s, void *buf, size_t n, struct err *e);

/* Bytes [@off, @off + @len) of @fd by pread; @fd is borrowed. End of file inside is -ENODATA. */
int stream_of_fd(int fd, uint64_t off, uint64_t len, struct stream **ret);

/* @len bytes at @data, borrowed. */
int stream_of_mem(const void *data, size_t len, struct stream **ret);

#endif
