/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/index/blobmap.h"
#include "plugin/store/attached.h"
#include "plugin/store/filling.h"
#include "plugin/store/whole.h"
#include "tests/unit/pull_fixture.h"

#define SIZE (3u << 20)

static const struct digest shared;
static struct blob blob;

static int setup_layer(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};

	setup(state);
	put_layer(&blob, CODEC_GZIP, SIZE);
	put_image(&blob, codec, 1);
	return 0;
}

static int teardown_layer(void **state)
{
	blob_free(&blob);
	return teardown(state);
}

static struct layer *mounted(void)
{
	struct layer *l = NULL;
	struct err e = ERR_INIT;

	if (layer_mount(&engine, &blob.diff_id, &shared, &l, &e) < 0)
		fail_msg("%s", e.text);
	return l;
}

static void count_states(const struct layer *l, uint32_t count[SPAN_PARKED + 1])
{
	memset(count, 0, (SPAN_PARKED + 1) * sizeof(*count));
	for (uint32_t i = 0; i < l->index.nspans; i++)
		count[l->spans[i].state]++;
}

/* --- mounting --- */

static void a_layer_without_content(void **state)
{
	struct layer *l, *again;

	pull_ok(PULL_NONE);
	l = mounted();
	assert_int_equal(l->refs, 1);
	assert_int_equal(l->index.tar_size, blob.tar.len);
	assert_true(l->index.nspans > 1);
	assert_int_equal(l->nabsent, l->index.nspans);
	assert_int_equal(l->extents.n, 1);
	assert_false(l->complete);
	assert_true(l->marked && l->exec_marked == KEEP_MARK_EXEC);
	assert_int_equal(l->nsources, 1);
	assert_true(l->sources[0].at.local);
	assert_string_equal(l->sources[0].dir, layout);
	assert_int_equal(l->sources[0].at.blob_size, blob.bytes.len);
	assert_int_equal(blobmap_nspans(l->sources[0].map), l->index.nspans);
	assert_ptr_equal(engine.layers, l);
	assert_int_equal(fake_fill.ready, 1);

	again = mounted();
	assert_ptr_equal(again, l);
	assert_int_equal(l->refs, 2);
	assert_int_equal(fake.mounts, 1);
	layer_umount(&engine, l);
	assert_int_equal(fake.umounts, 0);
	layer_umount(&engine, l);
	assert_int_equal(fake.umounts, 1);
	assert_int_equal(fake_fill.gone, 1);
	assert_null(engine.layers);
}

/* The digests must still be there when the names are not. */
static void the_digests_are_kept(void **state)
{
	struct digest d;
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	assert_null(l->index.toc);
	for (uint32_t i = 0; i < l->index.nspans; i++) {
		assert_int_equal(digest_of(blob.tar.data + index_span_start(&l->index, i),
					   index_span_len(&l->index, i), &d),
				 0);
		assert_true(digest_equal(&d, &l->index.digests[i]));
	}
	layer_umount(&engine, l);
}

static void a_complete_layer_loses_its_marks(void **state)
{
	struct fake_mount *m;
	struct layer *l;

	pull_ok(PULL_ALL);
	l = mounted();
	m = fake_mount_find(&blob.diff_id);
	assert_true(l->complete);
	assert_int_equal(l->nclean, l->index.nspans);
	assert_false(l->marked || l->exec_marked || m->marked || m->exec_flags);
	assert_int_equal(fake_fill.checks, 0);
	layer_umount(&engine, l);
	/* And is complete the next time too. */
	l = mounted();
	assert_true(l->complete);
	layer_umount(&engine, l);
}

/* The engine died while the layer was mounted: its present file was never made clean again. */
static void after_a_crash_nothing_is_trusted(void **state)
{
	struct keep_file f = file_of_layer(KEEP_PRESENT, &blob.diff_id, NULL);
	uint32_t count[SPAN_PARKED + 1];
	char before[512];
	struct layer *l;
	ssize_t n;

	pull_ok(PULL_ALL);
	l = mounted();
	n = fake_content(&f, before, sizeof(before));
	assert_true(n > 0 && n < (ssize_t)sizeof(before));
	layer_umount(&engine, l);
	assert_int_equal(file_write(&engine, &f, before, (size_t)n, NULL), 0);
	l = mounted();
	count_states(l, count);
	assert_int_equal(count[SPAN_UNPROVEN], l->index.nspans);
	assert_false(l->complete);
	assert_true(l->marked);
	layer_umount(&engine, l);
	/* Unmounting is no proof. */
	l = mounted();
	count_states(l, count);
	assert_int_equal(count[SPAN_UNPROVEN], l->index.nspans);
	layer_umount(&engine, l);
}

static void what_was_filled_is_remembered(void **state)
{
	uint32_t count[SPAN_PARKED + 1];
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	span_set(l, 1, SPAN_CLEAN);
	layer_umount(&engine, l);
	l = mounted();
	count_states(l, count);
	assert_int_equal(count[SPAN_CLEAN], 1);
	assert_int_equal(l->spans[1].state, SPAN_CLEAN);
	assert_int_equal(fake_fill.checks, 0);
	for (uint32_t i = 0; i < l->index.nspans; i++)
		span_set(l, i, SPAN_CLEAN);
	layer_umount(&engine, l);
	/* All there, but nobody has looked at the whole yet. */
	l = mounted();
	assert_int_equal(fake_fill.checks, 1);
	layer_umount(&engine, l);
}

/* --- sources --- */

static void a_pull_gives_a_mounted_layer_a_source(void **state)
{
	static const enum codec_kind codec[] = {CODEC_ZSTD};
	struct layer *l;
	struct blob other;

	pull_ok(PULL_NONE);
	l = mounted();
	put_layer(&other, CODEC_ZSTD, SIZE);
	put_image(&other, codec, 1);
	pull_ok(PULL_NONE);
	assert_int_equal(l->refs, 1);
	assert_int_equal(l->nsources, 2);
	assert_true(digest_equal(&l->sources[1].at.blob, &other.digest));
	assert_int_equal(blobmap_nspans(l->sources[1].map), l->index.nspans);
	/* The same again makes none, but what was bad may be good now. */
	l->sources[1].bad = true;
	l->sources[0].bad = true;
	pull_ok(PULL_NONE);
	assert_int_equal(l->nsources, 2);
	assert_false(l->sources[1].bad);
	assert_true(l->sources[0].bad);
	layer_umount(&engine, l);
	blob_free(&other);
}

/* --- image.erofs --- */

static void an_image_that_is_missing_is_made(void **state)
{
	struct keep_file f = file_of_layer(KEEP_IMAGE, &blob.diff_id, NULL);
	_cleanup_free_ char *before = malloc(1 << 20), *after = malloc(1 << 20);
	struct layer *l;
	ssize_t n;

	pull_ok(PULL_NONE);
	n = fake_content(&f, before, 1 << 20);
	assert_true(n > 0);
	assert_int_equal(file_drop(&engine, &f, NULL), 0);
	l = mounted();
	assert_int_equal(fake_content(&f, after, 1 << 20), n);
	assert_memory_equal(before, after, (size_t)n);
	layer_umount(&engine, l);
}

static void an_image_that_is_damaged_is_made_anew(void **state)
{
	struct keep_file f = file_of_layer(KEEP_IMAGE, &blob.diff_id, NULL);
	struct layer *l;

	pull_ok(PULL_NONE);
	assert_int_equal(file_write(&engine, &f, "not an image", 12, NULL), 0);
	l = mounted();
	assert_int_equal(l->extents.n, 1);
	layer_umount(&engine, l);
	assert_int_equal(fake.mounts, 2);
}

/* One that is mounted already, from before this engine, is never replaced. */
static void a_mounted_image_stays(void **state)
{
	struct keep_file f = file_of_layer(KEEP_IMAGE, &blob.diff_id, NULL);
	struct keep_request req = {.op = KEEP_LAYER_MOUNT, .layer.diff_id = blob.diff_id};
	struct keep_reply rep;
	struct err e = ERR_INIT;
	struct layer *l = NULL;
	unsigned creates;
	int fds[2];

	pull_ok(PULL_NONE);
	assert_int_equal(file_write(&engine, &f, "not an image", 12, NULL), 0);
	assert_int_equal(keep_call(NULL, &req, &rep, fds, 2, NULL), 0);
	close(fds[0]);
	close(fds[1]);
	creates = fake.creates[KEEP_IMAGE];
	assert_int_equal(layer_mount(&engine, &blob.diff_id, &shared, &l, &e), -EBADMSG);
	assert_int_equal(fake.creates[KEEP_IMAGE], creates);
	assert_non_null(fake_mount_find(&blob.diff_id));
}

static void a_tar_of_the_wrong_size_is_refused(void **state)
{
	struct keep_file f = file_of_layer(KEEP_TAR, &blob.diff_id, NULL);
	struct layer *l = NULL;
	struct err e = ERR_INIT;

	pull_ok(PULL_NONE);
	assert_int_equal(file_write(&engine, &f, "short", 5, NULL), 0);
	assert_int_equal(layer_mount(&engine, &blob.diff_id, &shared, &l, &e), -EUCLEAN);
	assert_null(fake_mount_find(&blob.diff_id));
}

static void an_unknown_layer(void **state)
{
	struct layer *l = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(layer_mount(&engine, &blob.diff_id, &shared, &l, &e), -ENOENT);
	assert_non_null(strstr(e.text, "layer sha256:"));
}

/* --- unmounting --- */

static bool umounted(unsigned n)
{
	for (int i = 0; i < 50 && fake.umounts < n; i++)
		usleep(100000);
	return fake.umounts >= n;
}

static bool list_empty(void)
{
	for (int i = 0; i < 50 && LOOP(engine.layers); i++)
		usleep(10000);
	return !LOOP(engine.layers);
}

static void what_is_busy_goes_later(void **state)
{
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	fake_mount_find(&blob.diff_id)->busy = true;
	layer_umount(&engine, l);
	assert_int_equal(fake.umounts, 0);
	assert_ptr_equal(LOOP(engine.layers), l);
	assert_true(LOOP(l->unmounting));
	LOOP(fake_mount_find(&blob.diff_id))->busy = false;
	assert_true(umounted(1));
	assert_true(list_empty());
}

static void what_is_busy_is_used_again(void **state)
{
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	fake_mount_find(&blob.diff_id)->busy = true;
	layer_umount(&engine, l);
	assert_ptr_equal(mounted(), l);
	assert_int_equal(LOOP(l->refs), 1);
	assert_false(LOOP(l->unmounting));
	assert_int_equal(fake.mounts, 1);
	LOOP(fake_mount_find(&blob.diff_id))->busy = false;
	layer_umount(&engine, l);
	assert_int_equal(fake.umounts, 1);
	assert_true(list_empty());
}

static void the_loop_lets_a_thread_do_it(void **state)
{
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	layer_release(&engine, l);
	assert_true(umounted(1));
	assert_true(list_empty());
}

static void *mount_thread(void *unused)
{
	return mounted();
}

static void a_race_gives_one_layer(void **state)
{
	pthread_t thread[4];
	void *l[4];

	pull_ok(PULL_NONE);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, mount_thread, NULL), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], &l[i]), 0);
	assert_int_equal(fake.mounts, 1);
	for (int i = 0; i < 4; i++) {
		assert_ptr_equal(l[i], l[0]);
		layer_umount(&engine, l[i]);
	}
	assert_int_equal(fake.umounts, 1);
}

/* --- taking over --- */

static void adopt(bool marked)
{
	struct keep_request req = {.op = KEEP_LAYER_MOUNT, .layer.diff_id = blob.diff_id};
	struct keep_reply rep;
	int fds[2];

	assert_int_equal(keep_call(NULL, &req, &rep, fds, 2, NULL), 0);
	rep.layer.marked = marked;
	fake_mount_find(&blob.diff_id)->marked = marked;
	assert_int_equal(layer_adopt(&engine, &rep, fds, NULL), 0);
	assert_int_equal(fds[0], -1);
}

static void an_unmarked_layer_is_complete(void **state)
{
	pull_ok(PULL_NONE);
	adopt(false);
	assert_int_equal(engine.layers->refs, 0);
	assert_true(engine.layers->complete);
	assert_int_equal(engine.layers->nclean, engine.layers->index.nspans);
	layer_reap(&engine, &blob.diff_id, &shared);
	assert_true(umounted(1));
	assert_true(list_empty());
}

static void a_marked_layer_is_as_its_file_says(void **state)
{
	pull_ok(PULL_NONE);
	adopt(true);
	assert_false(engine.layers->complete);
	assert_int_equal(engine.layers->nabsent, engine.layers->index.nspans);
	assert_int_equal(fake_fill.ready, 1);
	/* Told twice, known once. */
	adopt(true);
	assert_null(engine.layers->next);
	layer_reap(&engine, &blob.diff_id, &shared);
	assert_true(umounted(1));
	assert_true(list_empty());
}

/* --- all of it --- */

static void whole(void **state)
{
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	assert_int_equal(layer_make_whole(&engine, l, NULL, NULL), 0);
	assert_true(l->complete);
	layer_umount(&engine, l);
}

static void what_cannot_be_had_is_given_up(void **state)
{
	struct err e = ERR_INIT;
	struct layer *l;

	fake_slots.settings.deadline_ms = 300;
	pull_ok(PULL_NONE);
	l = mounted();
	fake_fill.stuck = true;
	l->sources[0].fails = 1;
	snprintf(l->sources[0].last_error, sizeof(l->sources[0].last_error), "no route");
	assert_int_equal(layer_make_whole(&engine, l, NULL, &e), -ETIMEDOUT);
	assert_non_null(strstr(e.text, "no route"));
	layer_umount(&engine, l);
}

/* Nothing is filled in the background here. */
int engine_task(void (*fn)(void *ctx), void *ctx)
{
	return -EAGAIN;
}

/* The first and the last byte of the layer: two of its spans. */
static struct pin_layer ends(struct pin_range range[2])
{
	range[0] = (struct pin_range){.off = 0, .end = 1};
	range[1] = (struct pin_range){.off = blob.tar.len - 1, .end = blob.tar.len};
	return (struct pin_layer){.diff_id = blob.diff_id, .v = range, .n = 2};
}

static void parts(void **state)
{
	struct pin_range range[2];
	struct pin_layer want = ends(range);
	struct layer *l;

	pull_ok(PULL_NONE);
	l = mounted();
	assert_int_equal(filling_layer(&engine, &want, NULL, NULL), 0);
	assert_int_equal(l->nclean, 2);
	assert_true(span_present(&l->spans[0]));
	assert_true(span_present(&l->spans[l->index.nspans - 1]));
	layer_umount(&engine, l);
}

/* Each try changes the spans' states, and is no progress. */
static void parts_that_always_fail_are_given_up(void **state)
{
	struct pin_range range[2];
	struct pin_layer want = ends(range);
	struct err e = ERR_INIT;
	struct layer *l;

	fake_slots.settings.deadline_ms = 300;
	pull_ok(PULL_NONE);
	l = mounted();
	fake_fill.stuck = true;
	l->sources[0].bad = true;
	snprintf(l->sources[0].last_error, sizeof(l->sources[0].last_error), "wrong bytes");
	alarm(20);
	assert_int_equal(filling_layer(&engine, &want, NULL, &e), -ETIMEDOUT);
	alarm(0);
	assert_non_null(strstr(e.text, "wrong bytes"));
	layer_umount(&engine, l);
}

static void ids(void **state)
{
	char longest[LIMIT_ID + 1];

	memset(longest, 'a', sizeof(longest));
	longest[LIMIT_ID] = '\0';
	assert_false(attached_id_valid(longest));
	longest[LIMIT_ID - 1] = '\0';
	assert_true(attached_id_valid(longest));
	assert_true(attached_id_valid("0a_.+-B"));
	assert_false(attached_id_valid(""));
	assert_false(attached_id_valid("."));
	assert_false(attached_id_valid(".."));
	assert_false(attached_id_valid("-a"));
	assert_false(attached_id_valid("a/b"));
	assert_false(attached_id_valid("a b"));
}

#define with_layer(test) cmocka_unit_test_setup_teardown(test, setup_layer, teardown_layer)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_layer(a_layer_without_content),
		with_layer(the_digests_are_kept),
		with_layer(a_complete_layer_loses_its_marks),
		with_layer(after_a_crash_nothing_is_trusted),
		with_layer(what_was_filled_is_remembered),
		with_layer(a_pull_gives_a_mounted_layer_a_source),
		with_layer(an_image_that_is_missing_is_made),
		with_layer(an_image_that_is_damaged_is_made_anew),
		with_layer(a_mounted_image_stays),
		with_layer(a_tar_of_the_wrong_size_is_refused),
		with_layer(an_unknown_layer),
		with_layer(what_is_busy_goes_later),
		with_layer(what_is_busy_is_used_again),
		with_layer(the_loop_lets_a_thread_do_it),
		with_layer(a_race_gives_one_layer),
		with_layer(an_unmarked_layer_is_complete),
		with_layer(a_marked_layer_is_as_its_file_says),
		with_layer(whole),
		with_layer(what_cannot_be_had_is_given_up),
		with_layer(parts),
		with_layer(parts_that_always_fail_are_given_up),
		cmocka_unit_test(ids),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
