/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that are pulled at the same time, by one pull and by several; a client that goes away. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/pull_fixture.h"

#define SIZE (3u << 20) /* some spans */

struct client {
	unsigned told, gone_after;
};

static int told(void *ctx, const char *text, uint64_t done, uint64_t total)
{
	struct client *c = ctx;

	assert_non_null(strstr(text, "layer sha256:"));
	assert_true(done <= total);
	c->told++;
	return 0;
}

static bool gone(void *ctx)
{
	struct client *c = ctx;

	return c->gone_after && c->gone_after-- == 1;
}

static void a_client_that_goes_away_ends_it(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	struct client c = {.gone_after = 2};
	const struct watch w = {.progress = told, .cancelled = gone, .ctx = &c};
	struct record *rec = NULL;
	struct blob b;

	put_layer(&b, CODEC_GZIP, SIZE);
	put_image(&b, codec, 1);
	assert_int_equal(pull_with(PULL_ALL, NULL, &w, &rec, NULL), -EPIPE);
	assert_false(layer_dir_there(&b.diff_id));
	assert_int_equal(pull_with(PULL_ALL, NULL, &w, &rec, NULL), 0);
	assert_true(c.told > 0);
	record_free(rec);
	blob_free(&b);
}

static void *pull_thread(void *unused)
{
	struct record *rec = NULL;
	int r = pull_with(PULL_ALL, NULL, NULL, &rec, NULL);

	record_free(rec);
	return (void *)(intptr_t)r;
}

static void two_pulls_make_one_layer(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP};
	pthread_t thread[3];
	struct blob b;

	put_layer(&b, CODEC_GZIP, 2 * SIZE);
	put_image(&b, codec, 1);
	for (size_t i = 0; i < ARRAY_LEN(thread); i++)
		assert_int_equal(pthread_create(&thread[i], NULL, pull_thread, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(thread); i++) {
		void *r;

		assert_int_equal(pthread_join(thread[i], &r), 0);
		assert_int_equal((intptr_t)r, 0);
	}
	assert_int_equal(fake.creates[KEEP_TAR], 1);
	assert_tar_is(&b);
	blob_free(&b);
}

/* The first layer's progress is held up until the last is all there, or the pull is given up. */
struct hold {
	struct blob b[2];
	atomic_bool last_done, last_seen;
	bool (*until)(struct hold *h);
};

static int hold_first(void *ctx, const char *text, uint64_t done, uint64_t total)
{
	struct hold *h = ctx;
	char first[DIGEST_TEXT], last[DIGEST_TEXT];

	digest_text(&h->b[0].diff_id, first);
	digest_text(&h->b[1].diff_id, last);
	if (strstr(text, last) && done == total)
		h->last_done = true;
	for (int i = 0; i < 6000 && strstr(text, first) && !h->until(h); i++)
		usleep(5000);
	return 0;
}

static bool last_is_done(struct hold *h)
{
	return h->last_done;
}

static bool last_has_failed(struct hold *h)
{
	bool there = layer_dir_there(&h->b[1].diff_id);

	h->last_seen |= there;
	return h->last_seen && !there;
}

static void layers_do_not_wait_for_each_other(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP, CODEC_ZSTD};
	struct hold h = {.last_done = false, .until = last_is_done};
	const struct watch w = {.progress = hold_first, .ctx = &h};
	struct record *rec = NULL;

	put_layer(&h.b[0], CODEC_GZIP, SIZE);
	put_layer(&h.b[1], CODEC_ZSTD, SIZE / 2);
	put_image(h.b, codec, 2);
	assert_int_equal(pull_with(PULL_ALL, NULL, &w, &rec, NULL), 0);
	assert_true(h.last_done);
	/* They are where the manifest has them all the same. */
	assert_int_equal(rec->nlayers, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_true(digest_equal(&rec->layers[i].diff_id, &h.b[i].diff_id));
		assert_tar_is(&h.b[i]);
		blob_free(&h.b[i]);
	}
	record_free(rec);
}

static void one_bad_layer_ends_the_others(void **state)
{
	static const enum codec_kind codec[] = {CODEC_GZIP, CODEC_GZIP};
	struct hold h = {.last_done = false, .until = last_has_failed};
	const struct watch w = {.progress = hold_first, .ctx = &h};
	struct record *rec = NULL;
	struct err e = ERR_INIT;
	char text[DIGEST_TEXT];

	put_layer(&h.b[0], CODEC_GZIP, 8 * SIZE);
	put_layer(&h.b[1], CODEC_GZIP, SIZE / 2);
	h.b[1].diff_id.sum[5] ^= 1;
	put_image(h.b, codec, 2);
	assert_int_equal(pull_with(PULL_ALL, NULL, &w, &rec, &e), -EBADMSG);
	/* What is told is why, not that the other was given up. */
	assert_non_null(strstr(e.text, digest_text(&h.b[1].diff_id, text)));
	assert_non_null(strstr(e.text, "wrong digest"));
	assert_null(rec);
	for (size_t i = 0; i < 2; i++) {
		assert_false(layer_dir_there(&h.b[i].diff_id));
		blob_free(&h.b[i]);
	}
}

#define in_store(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		in_store(a_client_that_goes_away_ends_it),
		in_store(two_pulls_make_one_layer),
		in_store(layers_do_not_wait_for_each_other),
		in_store(one_bad_layer_ends_the_others),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
