/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PULL_FIXTURE_H
#define TESTS_UNIT_PULL_FIXTURE_H

/* Images in an OCI layout of the test, and real fetcher processes to pull them with. */

#include "oci/config.h"
#include "oci/manifest.h"
#include "plugin/store/images.h"
#include "plugin/store/ingest.h"
#include "plugin/store/load.h"
#include "plugin/store/present.h"
#include "plugin/store/pull.h"
#include "plugin/store/sources.h"
#include "tests/unit/fake_flight.h"
#include "tests/unit/fill_fixture.h"

static char layout[96]; /* its directory */

static int start_fetcher(int fds[2], int32_t *ret_pid)
{
	*ret_pid = fetcher_start(&fds[0], &fds[1]);
	return 0;
}

static void end_fetcher(int32_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void put_file(const char *name, const void *data, size_t len)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", layout, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, data, len), 0);
	close(fd);
}

static void put_blob(const struct digest *as, const void *data, size_t len)
{
	char name[128], hex[DIGEST_HEX + 1];

	snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(as, hex));
	put_file(name, data, len);
}

static struct digest put_content(const struct buf *b)
{
	struct digest d;

	assert_int_equal(b->failed, 0);
	assert_int_equal(digest_of(b->data, b->len, &d), 0);
	put_blob(&d, b->data, b->len);
	return d;
}

static void put_layout(void)
{
	static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
	char path[256];

	snprintf(layout, sizeof(layout), "%s/layout", fake.dir);
	assert_int_equal(mkdir(layout, 0700), 0);
	snprintf(path, sizeof(path), "%s/blobs", layout);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/blobs/sha256", layout);
	assert_int_equal(mkdir(path, 0700), 0);
	put_file("oci-layout", version, strlen(version));
}

/* One image of @n layers that are in the layout, as its only one, named "x". */
static struct digest put_image(const struct blob *layers, const enum codec_kind *codec, size_t n)
{
	static const char *const type[] = {"tar", "tar+gzip", "tar+zstd"};
	struct digest config, manifest;
	_cleanup_buf_ struct buf b;
	char text[DIGEST_TEXT];

	buf_init(&b, LIMIT_MANIFEST);
	buf_put_str(&b, "{\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[");
	for (size_t i = 0; i < n; i++)
		buf_printf(&b, "%s\"%s\"", i ? "," : "", digest_text(&layers[i].diff_id, text));
	buf_put_str(&b, "]}}");
	config = put_content(&b);
	digest_text(&config, text);
	{
		size_t len = b.len;

		buf_clear(&b);
		buf_printf(&b,
			   "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/"
			   "vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
			   "\"layers\":[",
			   text, len);
	}
	for (size_t i = 0; i < n; i++)
		buf_printf(&b,
			   "%s{\"mediaType\":\"application/vnd.oci.image.layer.v1.%s\","
			   "\"digest\":\"%s\",\"size\":%zu}",
			   i ? "," : "", type[codec[i]], digest_text(&layers[i].digest, text),
			   layers[i].bytes.len);
	buf_put_str(&b, "]}");
	manifest = put_content(&b);
	digest_text(&manifest, text);
	{
		size_t len = b.len;

		buf_clear(&b);
		buf_printf(&b,
			   "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/"
			   "vnd.oci.image.manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu,"
			   "\"annotations\":{\"org.opencontainers.image.ref.name\":\"x\"}}]}",
			   text, len);
	}
	put_file("index.json", b.data, b.len);
	return manifest;
}

/* A layer whose blob is in the layout too. */
static void put_layer(struct blob *b, enum codec_kind codec, size_t size)
{
	blob_make(b, codec, size);
	put_blob(&b->digest, b->bytes.data, b->bytes.len);
}

static int pull_with(enum pull_keep keep, const char *name, const struct watch *w,
		     struct record **ret, struct err *e)
{
	char src[128];
	struct pull_request rq = {.src = src, .keep = keep, .name = name, .tls_verify = true};

	snprintf(src, sizeof(src), "oci:%s:x", layout);
	platform_local(&rq.platform);
	return pull_image(&engine, &rq, w, ret, e);
}

/* A plain layer that says nothing but these; names that end in '/' are directories of @mode. */
_unused_ static void put_names(struct blob *b, const char *const *names, unsigned mode)
{
	buf_init(&b->tar, 1u << 20);
	buf_init(&b->bytes, 1u << 20);
	for (; *names; names++) {
		bool dir = (*names)[strlen(*names) - 1] == '/';
		unsigned sum = 0;
		char *h;

		put_header(&b->tar, *names, 0);
		h = (char *)b->tar.data + b->tar.len - 512;
		snprintf(h + 100, 8, "%07o", dir ? mode : 0644u);
		h[156] = dir ? '5' : '0';
		memset(h + 148, ' ', 8);
		for (int i = 0; i < 512; i++)
			sum += (unsigned char)h[i];
		snprintf(h + 148, 8, "%06o", sum);
	}
	buf_put_zeros(&b->tar, 1024);
	buf_put(&b->bytes, b->tar.data, b->tar.len);
	assert_int_equal(b->tar.failed | b->bytes.failed, 0);
	assert_int_equal(digest_of(b->tar.data, b->tar.len, &b->diff_id), 0);
	b->digest = b->diff_id;
	b->fd = -1;
	put_blob(&b->digest, b->bytes.data, b->bytes.len);
}

/* Pulls and forgets what came of it. */
static inline void pull_ok(enum pull_keep keep)
{
	struct record *rec = NULL;
	struct err e = ERR_INIT;

	if (pull_with(keep, NULL, NULL, &rec, &e) < 0)
		fail_msg("%s", e.text);
	record_free(rec);
}

static int setup(void **state)
{
	fake_start();
	memset(&fake_fill, 0, sizeof(fake_fill));
	fake.fetcher = start_fetcher;
	fake.fetcher_gone = end_fetcher;
	put_layout();
	return 0;
}

static int teardown(void **state)
{
	assert_null(engine.layers);
	fake_stop();
	return 0;
}

/* --- what is in the store --- */

static inline bool layer_dir_there(const struct digest *diff_id)
{
	char path[128], hex[DIGEST_HEX + 1];

	snprintf(path, sizeof(path), "layers/%s", digest_hex(diff_id, hex));
	return faccessat(fake.store, path, F_OK, 0) == 0;
}

static inline int tar_open(const struct digest *diff_id)
{
	struct keep_file f = file_of_layer(KEEP_TAR, diff_id, NULL);
	int fd = store_file_open(fake.store, &f, O_RDONLY, NULL);

	assert_true(fd >= 0);
	return fd;
}

static inline void assert_tar_is(const struct blob *b)
{
	_cleanup_fd_ int fd = tar_open(&b->diff_id);
	_cleanup_buf_ struct buf got;

	buf_init(&got, 64u << 20);
	assert_int_equal(fd_read_all(fd, &got), 0);
	assert_int_equal(got.len, b->tar.len);
	assert_memory_equal(got.data, b->tar.data, got.len);
}

#endif
