/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FILL_FIXTURE_H
#define TESTS_UNIT_FILL_FIXTURE_H

/* A layer made on the spot, and a real fetcher process to get it with. */

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/digest.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/codec/codec.h"
#include "plugin/fill/wire.h"

#define FIXTURE_SPAN (64u << 10)

struct blob {
	struct buf tar; /* plain */
	struct digest diff_id;
	struct buf bytes; /* compressed */
	struct digest digest;
	int fd; /* owned memfd of `bytes` */
};

static inline void put_header(struct buf *tar, const char *name, size_t size)
{
	char h[512] = "";
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", 0644u);
	snprintf(h + 108, 8, "%07o", 0u);
	snprintf(h + 116, 8, "%07o", 0u);
	snprintf(h + 124, 12, "%011zo", size);
	snprintf(h + 136, 12, "%011o", 1600000000u);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	buf_put(tar, h, sizeof(h));
}

/* One file of @size bytes, neither all alike nor all random, so that it has deflate blocks. */
static inline void make_tar(struct buf *tar, size_t size)
{
	uint32_t x = 12345;

	put_header(tar, "data", size);
	for (size_t i = 0; i < size; i++) {
		x = x * 1664525 + 1013904223;
		buf_put_u8(tar, (uint8_t)(i / 4096 % 3 ? x >> 28 : x >> 24));
	}
	buf_pad_to(tar, 512);
	buf_put_zeros(tar, 1024);
}

static inline void compress_gzip(const struct buf *in, struct buf *out)
{
	z_stream z = {.next_in = in->data, .avail_in = (uInt)in->len};

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.avail_out = (uInt)deflateBound(&z, in->len);
	z.next_out = buf_reserve(out, z.avail_out);
	assert_non_null(z.next_out);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	buf_commit(out, z.total_out);
	deflateEnd(&z);
}

static inline void compress_zstd(const struct buf *in, struct buf *out)
{
	size_t max = ZSTD_compressBound(in->len), n;
	void *p = buf_reserve(out, max);

	assert_non_null(p);
	n = ZSTD_compress(p, max, in->data, in->len, 3);
	assert_false(ZSTD_isError(n));
	buf_commit(out, n);
}

static inline void blob_make(struct blob *b, enum codec_kind codec, size_t size)
{
	buf_init(&b->tar, 64u << 20);
	buf_init(&b->bytes, 64u << 20);
	make_tar(&b->tar, size);
	if (codec == CODEC_GZIP)
		compress_gzip(&b->tar, &b->bytes);
	else if (codec == CODEC_ZSTD)
		compress_zstd(&b->tar, &b->bytes);
	else
		buf_put(&b->bytes, b->tar.data, b->tar.len);
	assert_int_equal(b->tar.failed | b->bytes.failed, 0);
	assert_int_equal(digest_of(b->tar.data, b->tar.len, &b->diff_id), 0);
	assert_int_equal(digest_of(b->bytes.data, b->bytes.len, &b->digest), 0);
	b->fd = memfd_create("blob", MFD_CLOEXEC);
	assert_true(b->fd >= 0);
	assert_int_equal(fd_write_full(b->fd, b->bytes.data, b->bytes.len), 0);
}

static inline void blob_free(struct blob *b)
{
	buf_free(&b->tar);
	buf_free(&b->bytes);
	close(b->fd);
}

static inline int buffer_new(void)
{
	int fd = memfd_create("buffer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)FETCH_BUFFER_SIZE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	return fd;
}

/*
 * A process that serves jobs; its socket and buffer are the caller's. It is this program again,
 * from its start: a fork(2) of a process with threads may find malloc's locks taken, for the
 * sanitizers' malloc does not know of forks as the C library's does.
 */
#define FETCHER_ENV  "TARN_TEST_FETCHER"
#define FETCHER_SOCK 200
#define FETCHER_MEM  201

__attribute__((constructor)) static void be_a_fetcher(void)
{
	void *p;

	if (!getenv(FETCHER_ENV))
		return;
	p = mmap(NULL, FETCH_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, FETCHER_MEM, 0);
	_exit(p == MAP_FAILED ? 99 : fetcher_main(FETCHER_SOCK, p, NULL, 0));
}

static inline pid_t fetcher_start(int *ret_sock, int *ret_buffer)
{
	char said[] = FETCHER_ENV "=1";
	char *argv[] = {program_invocation_name, NULL}, *env[] = {said, NULL};
	int pair[2], buffer = buffer_new();
	posix_spawn_file_actions_t fds;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	posix_spawn_file_actions_init(&fds);
	posix_spawn_file_actions_adddup2(&fds, pair[1], FETCHER_SOCK);
	posix_spawn_file_actions_adddup2(&fds, buffer, FETCHER_MEM);
	assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &fds, NULL, argv, env), 0);
	posix_spawn_file_actions_destroy(&fds);
	close(pair[1]);
	*ret_sock = pair[0];
	*ret_buffer = buffer;
	return pid;
}

#endif
