/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever is done with documents, layers and files of the store: when one allocation or system
 * call of it fails, whichever, it fails as a whole and says so, or comes to the same result as
 * ever; no descriptor stays open, and (under a sanitizer) nothing stays allocated.
 */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=reallocarray */
/* link: -Wl,--wrap=strdup,--wrap=strndup,--wrap=read,--wrap=pread64 */
/* link: -Wl,--wrap=write,--wrap=pwrite64,--wrap=fstat64,--wrap=ftruncate64 */
/* link: -Wl,--wrap=fsync,--wrap=renameat,--wrap=mmap64,--wrap=memfd_create */
/* link: -Wl,--wrap=open64,--wrap=openat64 */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* cmocka wants the headers above before it. */
#include <stdarg.h>

#include <cmocka.h>

#include "hooks/spec.h"
#include "hooks/state.h"
#include "oci/base/digest.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/config.h"
#include "oci/index/blobmap.h"
#include "oci/index/build.h"
#include "oci/manifest.h"
#include "plugin/settings.h"
#include "plugin/store/record.h"
#include "tests/unit/failpoint.h"
#include "tests/unit/image_of.h"
#include "tests/unit/packing.h"
#include "tests/unit/scratch.h"
#include "tests/unit/tarmake.h"

#define SPAN      LIMIT_SPAN_MIN
#define TAR_LEN   ((size_t)300 << 10)
#define POINT_MAX 5000 /* more would not end in good time */

static char dir[] = "/tmp/failing.XXXXXX";

/* A job leaves what it came to in @out. 0 or -errno, as what it calls. */
typedef int (*job_fn)(struct buf *out, struct err *e);

/* The test's own: nothing fails in here. */
static void say(struct buf *out, const void *data, size_t len)
{
	unsigned long at = fail_at;

	fail_at = 0;
	if (len)
		assert_int_equal(buf_put(out, data, len), 0);
	fail_at = at;
}

/* Does it with the n-th failing. False: there are not so many. */
static bool one_point(job_fn job, unsigned long n, const struct buf *want)
{
	_cleanup_buf_ struct buf out;
	struct err e = ERR_INIT;
	unsigned before = fds_open();
	bool reached;
	int r;

	buf_init(&out, PACKING_MAX);
	fail_count = 0;
	fail_at = n;
	r = job(&out, &e);
	fail_at = 0;
	reached = fail_count >= n;
	if (fds_open() != before)
		fail_msg("point %lu: %u descriptors, and %u before", n, fds_open(), before);
	if (r == 0 && (out.len != want->len || memcmp(out.data, want->data, out.len) != 0))
		fail_msg("point %lu: another result", n);
	if (r < 0 && (!reached || r < -4095))
		fail_msg("point %lu: %d (%s) without a reason", n, r, e.text);
	return reached;
}

static void each_point(job_fn job)
{
	_cleanup_buf_ struct buf want;
	struct err e = ERR_INIT;
	unsigned long n = 1;

	buf_init(&want, PACKING_MAX);
	if (job(&want, &e) < 0)
		fail_msg("without a failure: %s", e.text);
	assert_true(want.len > 0);
	while (n < POINT_MAX && one_point(job, n, &want))
		n++;
	assert_in_range(n, 2, POINT_MAX - 1);
	print_message("# %lu points\n", n - 1);
}

/* --- documents --- */

#define SHA   "\"sha256:" HEX64 "\""
#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char manifest[] =
	"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
	"\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":" SHA
	",\"size\":7},\"layers\":[{\"mediaType\":"
	"\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":" SHA ",\"size\":12345}]}";
static const char config[] =
	"{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{\"Env\":[\"A=b\",\"C=\\u00e9\"],"
	"\"Cmd\":[\"/bin/sh\",\"-c\"],\"User\":\"app\",\"WorkingDir\":\"/w\"},"
	"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" SHA "]}}";

static int copy_json(struct buf *out, struct err *e)
{
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf text;
	struct json_gen *g;
	int r;

	buf_init(&text, SIZE_MAX);
	r = json_parse(config, strlen(config), LIMIT_MANIFEST, "x", &doc, e);
	if (r < 0)
		return r;
	g = json_gen_new(&text, true);
	json_put_value(g, NULL, doc);
	json_gen_free(g);
	if (!text.failed)
		say(out, text.data, text.len);
	return text.failed;
}

static int parse_manifest(struct buf *out, struct err *e)
{
	static const struct platform want = {"linux", "amd64", ""};
	static struct manifest_doc doc;
	int r;

	memset(&doc, 0, sizeof(doc));
	r = manifest_parse(manifest, strlen(manifest), NULL, "x", &want, &doc, e);
	if (r == 0)
		say(out, doc.manifest.layers[0].digest.sum, DIGEST_SIZE);
	return r;
}

static int parse_config(struct buf *out, struct err *e)
{
	_cleanup_(run_config_free) struct run_config run = {.workdir = NULL};
	static struct diff_ids ids;
	int r = config_diff_ids(config, strlen(config), "x", &ids, e);

	if (r == 0)
		r = config_parse_run(config, strlen(config), "x", &run, e);
	if (r == 0)
		say(out, run.workdir, strlen(run.workdir));
	for (size_t i = 0; r == 0 && i < run.env.n; i++)
		say(out, run.env.v[i], strlen(run.env.v[i]) + 1);
	return r;
}

static int keep_record(struct buf *out, struct err *e)
{
	_cleanup_(record_freep) struct record *rec = record_new();
	_cleanup_(record_freep) struct record *again = NULL;
	_cleanup_buf_ struct buf text;
	int r = rec ? record_add_name(rec, "app") : -ENOMEM;

	buf_init(&text, SIZE_MAX);
	if (r == 0)
		r = record_add_source(rec, "docker://localhost:5000/some/app:v1");
	if (r == 0) {
		rec->nlayers = 1;
		rec->layers[0].size = 1 << 20;
		rec->layers[0].proved = true;
		rec->layers[0].blob.media = MEDIA_LAYER_GZIP;
		rec->config.media = MEDIA_CONFIG;
		r = record_encode(rec, &text);
	}
	if (r == 0)
		r = record_decode(text.data, text.len, "x", &again, e);
	if (r == 0)
		say(out, again->names.v[0], strlen(again->names.v[0]));
	return r;
}

/* --- files --- */

static void put_file(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, text, strlen(text)), 0);
	close(fd);
}

static int load_settings(struct buf *out, struct err *e)
{
	struct settings s;
	char path[128];
	int r;

	snprintf(path, sizeof(path), "%s/tarn.conf", dir);
	r = settings_read(path, 0, &s, e);
	if (r == 0)
		say(out, &s.deadline_ms, sizeof(s.deadline_ms));
	return r;
}

static int publish(struct buf *out, struct err *e)
{
	_cleanup_fd_ int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -1;
	_cleanup_buf_ struct buf text;
	int r = at < 0 ? -errno : fd_publish(at, "file", "text", 4, 0600, e);

	buf_init(&text, 100);
	if (r == 0)
		fd = fd_open_beneath(at, "file", O_RDONLY | O_CLOEXEC, 0);
	if (r == 0)
		r = fd < 0 ? fd : fd_read_all(fd, &text);
	if (r == 0)
		say(out, text.data, text.len);
	return r;
}

static int hook_state(struct buf *out, struct err *e)
{
	_cleanup_state_ struct state s = {.doc = NULL};
	_cleanup_fd_ int fd = -1;
	char path[128];
	int r;

	snprintf(path, sizeof(path), "%s/state", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	r = fd < 0 ? -errno : state_read(fd, &s, e);
	if (r == 0)
		say(out, s.id, strlen(s.id));
	return r;
}

static int bundle_spec(struct buf *out, struct err *e)
{
	_cleanup_spec_ struct spec s = SPEC_INIT;
	int r = spec_open(dir, &s, e);

	if (r == 0)
		r = spec_check(&s, e);
	if (r == 0)
		say(out, s.image, strlen(s.image));
	return r;
}

/* --- layers --- */

static struct buf tar, gz, zst;

static int take_span(void *ctx, uint32_t span, const void *data, size_t len, struct err *e)
{
	struct digest d;

	if (digest_of(data, len, &d) < 0)
		return err_set(e, -ENOMEM, "digest");
	say(ctx, d.sum, sizeof(d.sum));
	return 0;
}

/* What the map says of the first checkpoint. */
static int look_at(const struct buf *map, struct buf *out, struct err *e)
{
	_cleanup_(blobmap_freep) struct blobmap *m = NULL;
	_cleanup_free_ struct checkpoint *cp = malloc(sizeof(*cp));
	int r = cp ? blobmap_decode(map->data, map->len, "x", &m, e) : -ENOMEM;

	if (r == 0)
		r = blobmap_checkpoint(m, blobmap_span(m, blobmap_nspans(m) - 1).point, cp);
	if (r == 0)
		say(out, &cp->in, sizeof(cp->in));
	return r;
}

/* From the compressed layer to its image of EROFS. */
static int index_layer(const struct buf *blob, struct buf *out, struct err *e)
{
	_cleanup_buf_ struct buf toc, map, image;
	_cleanup_fd_ int fd = -1;
	struct drip s = drip_of(blob->data, blob->len, 30011);
	struct build_input in = {.blob = &s.s,
				 .what = "x",
				 .blob_size = blob->len,
				 .span_size = SPAN,
				 .span = take_span,
				 .ctx = out};
	struct build_result res;
	struct index ix;
	int r = digest_of(blob->data, blob->len, &in.blob_digest);

	buf_init(&toc, LIMIT_TOC);
	buf_init(&map, PACKING_MAX);
	buf_init(&image, PACKING_MAX);
	if (r == 0)
		r = build_index(&in, &toc, &map, &res, e);
	if (r == 0)
		r = look_at(&map, out, e);
	if (r < 0)
		return r;
	ix = index_of(&toc, res.nentries, res.tar_size);
	fd = memfd_create("image", MFD_CLOEXEC);
	r = fd < 0 ? -errno : erofs_image_write(&ix, "x", fd, e);
	if (r == 0)
		r = fd_read_all(fd, &image);
	if (r == 0)
		say(out, image.data, image.len);
	return r;
}

static int index_tar(struct buf *out, struct err *e)
{
	return index_layer(&tar, out, e);
}

static int index_gzip(struct buf *out, struct err *e)
{
	return index_layer(&gz, out, e);
}

static int index_zstd(struct buf *out, struct err *e)
{
	return index_layer(&zst, out, e);
}

static void make_layers(void)
{
	static uint8_t data[TAR_LEN];

	packing_fill(data, sizeof(data), 3);
	buf_init(&tar, PACKING_MAX);
	buf_init(&gz, PACKING_MAX);
	buf_init(&zst, PACKING_MAX);
	tarmake_put(&tar, &(struct tarmake){.name = "dir/", .type = '5', .mode = 0755});
	tarmake_put(&tar, &(struct tarmake){
				  .name = "dir/big", .mode = 0644, .data = data, .size = TAR_LEN});
	tarmake_put(&tar, &(struct tarmake){.name = "dir/link", .link = "big", .type = '2'});
	tarmake_put(&tar, &(struct tarmake){.name = "dir/hard", .link = "dir/big", .type = '1'});
	tarmake_end(&tar);
	packing_gzip(&gz, tar.data, tar.len, 6, 0, 0);
	packing_zstd(&zst, tar.data, tar.len, 3, false);
}

static int setup(void **state)
{
	assert_non_null(mkdtemp(dir));
	put_file("tarn.conf", "fault.deadline = 7s\n# words\ncache.max = 10G\n");
	put_file("state",
		 "{\"ociVersion\":\"1.0.2\",\"id\":\"c1\",\"status\":\"created\",\"pid\":7,"
		 "\"bundle\":\"/run/b\"}");
	put_file("config.json",
		 "{\"ociVersion\":\"1.0.2\",\"annotations\":{\"org.tarn.image\":" SHA "},"
		 "\"root\":{\"path\":\"rootfs\"},\"linux\":{\"namespaces\":[{\"type\":\"mount\"}]}"
		 "}");
	make_layers();
	return 0;
}

static int teardown(void **state)
{
	buf_free(&tar);
	buf_free(&gz);
	buf_free(&zst);
	return scratch_remove(dir);
}

#define TEST(job)                                                                                  \
	static void test_##job(void **state)                                                       \
	{                                                                                          \
		each_point(job);                                                                   \
	}

TEST(copy_json)
TEST(parse_manifest)
TEST(parse_config)
TEST(keep_record)
TEST(load_settings)
TEST(publish)
TEST(hook_state)
TEST(bundle_spec)
TEST(index_tar)
TEST(index_gzip)
TEST(index_zstd)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_json),     cmocka_unit_test(test_parse_manifest),
		cmocka_unit_test(test_parse_config),  cmocka_unit_test(test_keep_record),
		cmocka_unit_test(test_load_settings), cmocka_unit_test(test_publish),
		cmocka_unit_test(test_hook_state),    cmocka_unit_test(test_bundle_spec),
		cmocka_unit_test(test_index_tar),     cmocka_unit_test(test_index_gzip),
		cmocka_unit_test(test_index_zstd),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
