/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "plugin/store/claim.h"
#include "plugin/store/parents.h"
#include "tests/unit/pull_fixture.h"

#define SIZE (3u << 20) /* some spans */

static const struct digest shared;

static void assert_tar_is_hole(const struct blob *b)
{
	_cleanup_fd_ int fd = tar_open(&b->diff_id);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, b->tar.len);
	assert_int_equal(st.st_blocks, 0);
}

static uint32_t present_flags(const struct blob *b)
{
	_cleanup_free_ void *bytes = NULL;
	struct present p;
	struct index ix;
	uint32_t flags;

	assert_int_equal(layer_index_read(&engine, &b->diff_id, &shared, &ix, &bytes, NULL), 0);
	assert_int_equal(present_open(&engine, &b->diff_id, &shared, ix.nspans, &p, NULL), 0);
	flags = p.flags;
	present_free(&p);
	return flags;
}

static size_t sources_of(const struct blob *b)
{
	struct sources s;
	size_t n;

	assert_int_equal(sources_load(&engine, &b->diff_id, &shared, &s, NULL), 0);
	n = s.n;
	sources_free(&s);
	return n;
}

/* --- what a pull leaves --- */

static void without_content(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	_cleanup_(record_freep) struct record *rec = NULL, *found = NULL;
	struct err e = ERR_INIT;
	struct digest manifest;
	char text[DIGEST_TEXT];
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	manifest = put_image(&b, codec, 1);
	if (pull_with(PULL_AUTO, NULL, NULL, &rec, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(digest_equal(&rec->manifest, &manifest));
	assert_int_equal(rec->nlayers, 1);
	assert_true(rec->layers[0].proved);
	assert_int_equal(rec->layers[0].size, b.tar.len);
	assert_tar_is_hole(&b);
	assert_int_equal(sources_of(&b), 1);
	assert_int_equal(present_flags(&b), PRESENT_CLEAN);

	assert_int_equal(image_find(&engine, "layout:x", &found, NULL), 0);
	found = record_free(found);
	assert_int_equal(image_find(&engine, digest_text(&manifest, text), &found, NULL), 0);
	found = record_free(found);
	assert_int_equal(image_find(&engine, "layout:y", &found, &e), -ENOENT);
	assert_string_equal(e.text, "image layout:y is not known: tarn pull it first");
	blob_free(&b);
}

static void with_all_content(void **state)
{
	static const enum codec_kind kinds[] = {CODEC_RAW, CODEC_GZIP, CODEC_ZSTD};
	struct blob b[3];

	for (size_t i = 0; i < 3; i++)
		put_layer(&b[i], kinds[i], SIZE + 12345 * i);
	put_image(b, kinds, 3);
	pull_ok(PULL_ALL);
	for (size_t i = 0; i < 3; i++) {
		assert_tar_is(&b[i]);
		assert_int_equal(present_flags(&b[i]), PRESENT_CLEAN | PRESENT_COMPLETE);
		blob_free(&b[i]);
	}
	assert_int_equal(fake.mounts, 0);
}

static void a_known_layer_is_not_read_again(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	pull_ok(PULL_NONE);
	/* Its blob may even be gone. */
	put_blob(&b.digest, "", 0);
	pull_ok(PULL_NONE);
	assert_int_equal(fake.creates[KEEP_TAR], 1);
	assert_int_equal(fake.creates[KEEP_MAP], 1);
	blob_free(&b);
}

static void another_blob_of_a_layer_is_another_map(void **state)
{
	enum codec_kind codec = CODEC_GZIP;
	struct blob a, b;

	put_layer(&a, CODEC_GZIP, SIZE);
	put_image(&a, &codec, 1);
	pull_ok(PULL_ALL);
	put_layer(&b, CODEC_ZSTD, SIZE);
	assert_true(digest_equal(&a.diff_id, &b.diff_id));
	codec = CODEC_ZSTD;
	put_image(&b, &codec, 1);
	pull_ok(PULL_NONE);
	assert_int_equal(fake.creates[KEEP_TAR], 1);
	assert_int_equal(fake.creates[KEEP_MAP], 2);
	assert_int_equal(sources_of(&a), 2);
	assert_tar_is(&a);
	assert_int_equal(present_flags(&a), PRESENT_CLEAN | PRESENT_COMPLETE);
	blob_free(&a);
	blob_free(&b);
}

/* Content that was left out the first time is brought when it is asked for. */
static void all_brings_what_was_left_out(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	pull_ok(PULL_NONE);
	pull_ok(PULL_ALL);
	assert_int_equal(fake.mounts, 1);
	assert_int_equal(fake.umounts, 1);
	assert_int_equal(present_flags(&b), PRESENT_CLEAN | PRESENT_COMPLETE);
	blob_free(&b);
}

static void names_move(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	_cleanup_(record_freep) struct record *rec = NULL;
	struct digest first, second;
	struct records rs;
	struct blob a, b;
	bool gone = true;

	put_layer(&a, CODEC_GZIP, SIZE);
	first = put_image(&a, codec, 1);
	pull_ok(PULL_NONE);
	assert_int_equal(pull_with(PULL_NONE, "mine", NULL, &rec, NULL), 0);
	rec = record_free(rec);
	put_layer(&b, CODEC_GZIP, SIZE / 2);
	second = put_image(&b, codec, 1);
	pull_ok(PULL_NONE);
	assert_int_equal(image_find(&engine, "layout:x", &rec, NULL), 0);
	assert_true(digest_equal(&rec->manifest, &second));
	rec = record_free(rec);
	assert_int_equal(image_find(&engine, "mine", &rec, NULL), 0);
	assert_true(digest_equal(&rec->manifest, &first));
	assert_int_equal(rec->names.n, 1);
	rec = record_free(rec);

	assert_int_equal(image_remove(&engine, "mine", &gone, NULL), 0);
	assert_true(gone);
	assert_int_equal(images_load(&engine, &rs, NULL), 0);
	assert_int_equal(rs.n, 1);
	records_free(&rs);
	assert_int_equal(image_remove(&engine, "mine", &gone, NULL), -ENOENT);
	blob_free(&a);
	blob_free(&b);
}

/* An upper layer has tmp/x and does not say what tmp/ is like; the lower one does. */
static void implied_directories(void **state)
{
	static const char *const low[] = {"tmp/", NULL}, *const high[] = {"tmp/x", NULL};
	static const enum codec_kind codec[] = {CODEC_RAW, CODEC_RAW};
	_cleanup_(record_freep) struct record *rec = NULL;
	struct keep_file f = {.kind = KEEP_PARENTS};
	struct blob b[2];

	put_names(&b[0], low, 01777);
	put_names(&b[1], high, 0);
	f.key = put_image(b, codec, 2);
	assert_int_equal(pull_with(PULL_NONE, NULL, NULL, &rec, NULL), 0);
	assert_true(rec->parents);
	assert_true(file_exists(&engine, &f));
	/* It is made again when it is gone, or no longer what it should be. */
	assert_int_equal(file_write(&engine, &f, "old", 3, NULL), 0);
	assert_int_equal(parents_ensure(&engine, rec, NULL), 0);
	assert_int_equal(file_drop(&engine, &f, NULL), 0);
	assert_int_equal(parents_ensure(&engine, rec, NULL), 0);
	assert_int_equal(fake.publishes[KEEP_PARENTS], 4);
	assert_int_equal(parents_ensure(&engine, rec, NULL), 0);
	assert_int_equal(fake.publishes[KEEP_PARENTS], 4);
	assert_int_equal(image_remove(&engine, "layout:x", NULL, NULL), 0);
	assert_false(file_exists(&engine, &f));
	blob_free(&b[0]);
	blob_free(&b[1]);
}

static void *ensure_thread(void *rec)
{
	return (void *)(intptr_t)parents_ensure(&engine, rec, NULL);
}

/* Two containers may find it missing together: neither publishes what the other is writing. */
static void parents_are_written_one_at_a_time(void **state)
{
	static const char *const low[] = {"tmp/", NULL}, *const high[] = {"tmp/x", NULL};
	static const enum codec_kind codec[] = {CODEC_RAW, CODEC_RAW};
	_cleanup_(record_freep) struct record *rec = NULL;
	struct keep_file f = {.kind = KEEP_PARENTS};
	struct claim c = CLAIM_INIT;
	struct blob b[2];
	pthread_t thread;
	void *r;

	put_names(&b[0], low, 01777);
	put_names(&b[1], high, 0);
	f.key = put_image(b, codec, 2);
	assert_int_equal(pull_with(PULL_NONE, NULL, NULL, &rec, NULL), 0);
	assert_int_equal(file_drop(&engine, &f, NULL), 0);
	assert_int_equal(claim_take(&c, CLAIM_IMAGES, NULL, NULL, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, ensure_thread, rec), 0);
	usleep(100000);
	assert_int_equal(fake.creates[KEEP_PARENTS], 1);
	claim_put(&c);
	assert_int_equal(pthread_join(thread, &r), 0);
	assert_int_equal((intptr_t)r, 0);
	assert_int_equal(fake.creates[KEEP_PARENTS], 2);
	blob_free(&b[0]);
	blob_free(&b[1]);
}

static void no_parents_are_needed(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	_cleanup_(record_freep) struct record *rec = NULL;
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	assert_int_equal(pull_with(PULL_NONE, NULL, NULL, &rec, NULL), 0);
	assert_false(rec->parents);
	assert_int_equal(fake.creates[KEEP_PARENTS], 0);
	assert_int_equal(parents_ensure(&engine, rec, NULL), 0);
	assert_int_equal(fake.creates[KEEP_PARENTS], 0);
	blob_free(&b);
}

/* --- what a pull refuses --- */

/* It fails with @code and these words, and of the layer nothing is left. */
static void refuse(const struct blob *b, int code, const char *words)
{
	struct record *rec = NULL, *found = NULL;
	struct err e = ERR_INIT;
	int r = pull_with(PULL_ALL, NULL, NULL, &rec, &e);

	if (r != code || !strstr(e.text, words))
		fail_msg("%d: %s", r, e.text);
	assert_null(rec);
	assert_false(layer_dir_there(&b->diff_id));
	assert_int_equal(image_find(&engine, "layout:x", &found, NULL), -ENOENT);
}

static void a_tar_that_is_not_the_diff_id(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	b.diff_id.sum[5] ^= 1;
	put_image(&b, codec, 1);
	refuse(&b, -EBADMSG, "wrong digest: its tar has sha256:");
	blob_free(&b);
}

static void a_blob_that_was_changed(void **state)
{
	static const enum codec_kind codec[] = {CODEC_RAW};
	struct blob b;

	put_layer(&b, CODEC_RAW, SIZE);
	put_image(&b, codec, 1);
	b.bytes.data[100000] ^= 1;
	put_blob(&b.digest, b.bytes.data, b.bytes.len);
	refuse(&b, -EBADMSG, "layer sha256:");
	blob_free(&b);
}

static void a_gzip_that_was_cut(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	b.bytes.len /= 2;
	assert_int_equal(digest_of(b.bytes.data, b.bytes.len, &b.digest), 0);
	put_blob(&b.digest, b.bytes.data, b.bytes.len);
	put_image(&b, codec, 1);
	refuse(&b, -EBADMSG, "inside a member");
	blob_free(&b);
}

static void a_blob_shorter_than_its_manifest_says(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	put_blob(&b.digest, b.bytes.data, b.bytes.len - 1);
	refuse(&b, -EBADMSG, "where its manifest says");
	blob_free(&b);
}

static void a_manifest_that_was_changed(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct digest manifest;
	struct blob b;
	char text[1000];
	int fd;
	ssize_t n;

	put_layer(&b, CODEC_GZIP, SIZE);
	manifest = put_image(&b, codec, 1);
	snprintf(text, sizeof(text), "%s/blobs/sha256/", layout);
	digest_hex(&manifest, text + strlen(text));
	fd = open(text, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	n = pread(fd, text, 1, 0);
	assert_int_equal(n, 1);
	assert_int_equal(pwrite(fd, " ", 1, 0), 1);
	close(fd);
	refuse(&b, -EBADMSG, "wrong digest");
	blob_free(&b);
}

static void a_full_store(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	static const uint32_t kinds[] = {KEEP_TAR,     KEEP_IMAGE,   KEEP_MAP,
					 KEEP_PRESENT, KEEP_SOURCES, KEEP_INDEX};
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		fail_next(KEEP_FILE_PUBLISH, kinds[i], -ENOSPC);
		refuse(&b, -ENOSPC, "No space left on device");
	}
	pull_ok(PULL_ALL);
	assert_tar_is(&b);
	blob_free(&b);
}

static void leftovers_of_a_crash_do_no_harm(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct keep_file tar, present;
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	tar = file_of_layer(KEEP_TAR, &b.diff_id, NULL);
	present = file_of_layer(KEEP_PRESENT, &b.diff_id, NULL);
	assert_int_equal(file_write(&engine, &tar, "half", 4, NULL), 0);
	assert_int_equal(file_write(&engine, &present, "half", 4, NULL), 0);
	pull_ok(PULL_NONE);
	assert_tar_is_hole(&b);
	blob_free(&b);
}

static void a_damaged_index_is_made_anew(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct keep_file f;
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	pull_ok(PULL_NONE);
	f = file_of_layer(KEEP_INDEX, &b.diff_id, NULL);
	assert_int_equal(file_write(&engine, &f, "TARNIDX", 7, NULL), 0);
	pull_ok(PULL_ALL);
	assert_tar_is(&b);
	blob_free(&b);
}

/* --- clients --- */

#define in_store(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_store(without_content),
		in_store(with_all_content),
		in_store(a_known_layer_is_not_read_again),
		in_store(another_blob_of_a_layer_is_another_map),
		in_store(all_brings_what_was_left_out),
		in_store(names_move),
		in_store(implied_directories),
		in_store(parents_are_written_one_at_a_time),
		in_store(no_parents_are_needed),
		in_store(a_tar_that_is_not_the_diff_id),
		in_store(a_blob_that_was_changed),
		in_store(a_gzip_that_was_cut),
		in_store(a_blob_shorter_than_its_manifest_says),
		in_store(a_manifest_that_was_changed),
		in_store(a_full_store),
		in_store(leftovers_of_a_crash_do_no_harm),
		in_store(a_damaged_index_is_made_anew),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
