/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "plugin/store/present.h"
#include "tests/unit/fake_keeper.h"

static const struct digest shared;
static const struct digest diff_id = {.sum = {1, 2, 3}};

static int setup(void **state)
{
	fake_start();
	return 0;
}

static int teardown(void **state)
{
	fake_stop();
	return 0;
}

static void set_bit(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static void new_present(struct present *p, uint32_t nspans)
{
	assert_int_equal(present_new(&diff_id, nspans, p), 0);
}

static int decode(const struct buf *b, uint32_t nspans, struct present *ret)
{
	return present_decode(b->data, b->len, &diff_id, nspans, ret, NULL);
}

/* Gives every byte of a file its right sum again, so that what is in it is looked at. */
static void seal(struct buf *b)
{
	struct digest sum;

	assert_int_equal(digest_of(b->data, b->len - DIGEST_SIZE, &sum), 0);
	memcpy(b->data + b->len - DIGEST_SIZE, sum.sum, DIGEST_SIZE);
}

/* --- the file --- */

static void what_is_written_is_read(void **state)
{
	static const uint32_t sizes[] = {0, 1, 7, 8, 9, 64, 1000};

	for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
		struct present p, back;
		_cleanup_buf_ struct buf b;

		buf_init(&b, LIMIT_PRESENT_FILE);
		new_present(&p, sizes[k]);
		p.flags = PRESENT_CLEAN;
		for (uint32_t i = 0; i < sizes[k]; i++)
			if (i % 3)
				set_bit(i % 3 == 1 ? p.durable : p.maybe, i);
		assert_int_equal(present_encode(&p, &b), 0);
		assert_int_equal(decode(&b, sizes[k], &back), 0);
		assert_int_equal(back.flags, PRESENT_CLEAN);
		for (uint32_t i = 0; i < sizes[k]; i++) {
			assert_int_equal(present_bit(back.durable, i), i % 3 == 1);
			assert_int_equal(present_bit(back.maybe, i), i % 3 == 2);
		}
		present_free(&p);
		present_free(&back);
	}
}

static void filled_is_complete(void **state)
{
	struct present p, back;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_PRESENT_FILE);
	new_present(&p, 13);
	present_fill(&p);
	assert_int_equal(present_encode(&p, &b), 0);
	assert_int_equal(decode(&b, 13, &back), 0);
	assert_int_equal(back.flags, PRESENT_CLEAN | PRESENT_COMPLETE);
	for (uint32_t i = 0; i < 13; i++)
		assert_true(present_bit(back.durable, i));
	present_free(&p);
	present_free(&back);
}

static void any_damage_is_seen(void **state)
{
	struct present p, back;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_PRESENT_FILE);
	new_present(&p, 20);
	set_bit(p.durable, 3);
	assert_int_equal(present_encode(&p, &b), 0);
	for (size_t i = 0; i < b.len; i++) {
		b.data[i] ^= 0x10;
		assert_int_equal(decode(&b, 20, &back), -EBADMSG);
		b.data[i] ^= 0x10;
	}
	for (size_t len = 0; len < b.len; len++)
		assert_int_equal(present_decode(b.data, len, &diff_id, 20, &back, NULL), -EBADMSG);
	assert_int_equal(decode(&b, 20, &back), 0);
	present_free(&back);
	assert_int_equal(decode(&b, 19, &back), -EBADMSG);
	assert_int_equal(present_decode(b.data, b.len, &shared, 20, &back, NULL), -EBADMSG);
	present_free(&p);
}

/* Sound by its sum, yet it says what cannot be. */
static void contradictions_are_refused(void **state)
{
	enum { FLAGS = 12, DURABLE = 56, MAYBE = 59 };
	static const struct {
		size_t at;
		uint8_t value;
	} bad[] = {
		{FLAGS, PRESENT_COMPLETE},                 /* without clean */
		{FLAGS, PRESENT_CLEAN | PRESENT_COMPLETE}, /* without every span */
		{FLAGS, 8},
		{MAYBE, 1},             /* both */
		{DURABLE + 2, 1u << 4}, /* behind the last span */
		{MAYBE + 2, 1u << 7},
	};
	struct present p, back;
	_cleanup_buf_ struct buf b;

	buf_init(&b, LIMIT_PRESENT_FILE);
	new_present(&p, 20);
	set_bit(p.durable, 0);
	assert_int_equal(present_encode(&p, &b), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint8_t was = b.data[bad[i].at];

		b.data[bad[i].at] = bad[i].value;
		seal(&b);
		assert_int_equal(decode(&b, 20, &back), -EBADMSG);
		b.data[bad[i].at] = was;
	}
	seal(&b);
	assert_int_equal(decode(&b, 20, &back), 0);
	present_free(&back);
	present_free(&p);
}

/* --- in the store --- */

static void opened(uint32_t nspans, struct present *ret)
{
	assert_int_equal(present_open(&engine, &diff_id, &shared, nspans, ret, NULL), 0);
}

static void stored(uint32_t flags, uint32_t nspans, uint32_t span)
{
	struct present p;

	new_present(&p, nspans);
	set_bit(p.durable, span);
	p.flags = flags;
	assert_int_equal(present_store(&engine, &shared, &p, NULL), 0);
	present_free(&p);
}

static void clean_is_trusted_once(void **state)
{
	struct present p;

	stored(PRESENT_CLEAN, 20, 5);
	opened(20, &p);
	assert_int_equal(p.flags, PRESENT_CLEAN);
	assert_true(present_bit(p.durable, 5));
	present_free(&p);
	/* As after a crash: the same bits, and nobody believes them. */
	opened(20, &p);
	assert_int_equal(p.flags, 0);
	assert_true(present_bit(p.durable, 5));
	present_free(&p);
}

static void not_clean_is_not_rewritten(void **state)
{
	struct present p;
	unsigned before;

	stored(0, 20, 5);
	before = fake.publishes[KEEP_PRESENT];
	opened(20, &p);
	assert_int_equal(p.flags, 0);
	assert_int_equal(fake.publishes[KEEP_PRESENT], before);
	present_free(&p);
}

static void without_a_file_nothing_is_there(void **state)
{
	struct present p;

	opened(20, &p);
	assert_int_equal(p.flags, 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_false(present_bit(p.durable, i) || present_bit(p.maybe, i));
	present_free(&p);
	/* Nor with one of another size. */
	stored(PRESENT_CLEAN, 21, 5);
	opened(20, &p);
	assert_int_equal(p.flags, 0);
	assert_false(present_bit(p.durable, 5));
	present_free(&p);
}

/* What cannot be replaced must not stay clean: it goes. */
static void a_full_store_drops_it(void **state)
{
	struct present p;

	stored(PRESENT_CLEAN, 20, 5);
	fail_next(KEEP_FILE_CREATE, KEEP_PRESENT, -ENOSPC);
	opened(20, &p);
	assert_true(p.flags & PRESENT_CLEAN && present_bit(p.durable, 5));
	present_free(&p);
	opened(20, &p);
	assert_int_equal(p.flags, 0);
	assert_false(present_bit(p.durable, 5) || present_bit(p.maybe, 5));
	present_free(&p);
}

static void a_clean_file_that_cannot_be_replaced_goes(void **state)
{
	struct keep_file f = file_of_layer(KEEP_PRESENT, &diff_id, &shared);
	struct present p;

	stored(PRESENT_CLEAN, 20, 5);
	fail_next(KEEP_FILE_PUBLISH, KEEP_PRESENT, -EROFS);
	fake.fail_kind = KEEP_PRESENT;
	assert_int_equal(present_open(&engine, &diff_id, &shared, 20, &p, NULL), 0);
	present_free(&p);
	assert_false(file_exists(&engine, &f));
}

/* --- of a layer --- */

static void make_layer(struct layer *l, uint32_t nspans)
{
	memset(l, 0, sizeof(*l));
	l->diff_id = diff_id;
	l->index.nspans = nspans;
	assert_int_equal(layer_spans_new(l), 0);
}

/* One span of every state, in the order of enum span_state. */
static void set_states(struct layer *l)
{
	for (uint32_t i = SPAN_ABSENT; i <= SPAN_PARKED; i++)
		span_set(l, i, i);
}

static void a_clean_stop_tells_all(void **state)
{
	struct layer l;
	struct present p;

	make_layer(&l, 9);
	set_states(&l);
	assert_int_equal(present_close(&engine, &l, NULL), 0);
	opened(9, &p);
	assert_int_equal(p.flags, PRESENT_CLEAN);
	for (uint32_t i = 0; i < 9; i++) {
		bool maybe = i == SPAN_UNPROVEN || i == SPAN_CHECKING || i == SPAN_DIRTY ||
			     i == SPAN_LOST || i == SPAN_PARKED;

		assert_int_equal(present_bit(p.durable, i), i == SPAN_CLEAN);
		assert_int_equal(present_bit(p.maybe, i), maybe);
	}
	present_free(&p);
	layer_spans_free(&l);
}

static void complete_needs_every_span(void **state)
{
	struct layer l;
	struct present p;

	make_layer(&l, 3);
	for (uint32_t i = 0; i < 3; i++)
		span_set(&l, i, SPAN_CLEAN);
	l.complete = true;
	assert_int_equal(present_close(&engine, &l, NULL), 0);
	opened(3, &p);
	assert_int_equal(p.flags, PRESENT_CLEAN | PRESENT_COMPLETE);
	present_free(&p);
	span_set(&l, 1, SPAN_ABSENT);
	assert_int_equal(present_close(&engine, &l, NULL), 0);
	opened(3, &p);
	assert_int_equal(p.flags, PRESENT_CLEAN);
	present_free(&p);
	layer_spans_free(&l);
}

static void a_quarantine_outlives_engines(void **state)
{
	struct layer l;
	struct present p;

	make_layer(&l, 3);
	for (uint32_t i = 0; i < 3; i++)
		span_set(&l, i, SPAN_CLEAN);
	l.complete = l.quarantined = true;
	assert_int_equal(present_close(&engine, &l, NULL), 0);
	opened(3, &p);
	assert_int_equal(p.flags, PRESENT_CLEAN | PRESENT_QUARANTINED);
	present_free(&p);
	/* That one was killed. */
	opened(3, &p);
	assert_int_equal(p.flags, PRESENT_QUARANTINED);
	present_free(&p);
	layer_spans_free(&l);
}

static bool published(unsigned n, unsigned tenths)
{
	for (unsigned i = 0; i < tenths && fake.publishes[KEEP_PRESENT] < n; i++)
		usleep(100000);
	return fake.publishes[KEEP_PRESENT] >= n;
}

static void syncs_become_one_file(void **state)
{
	struct layer l;
	struct present p;

	make_layer(&l, 9);
	for (uint32_t i = 0; i < 9; i++) {
		span_set(&l, i, SPAN_CLEAN);
		present_synced(&engine, &l);
	}
	assert_int_equal(fake.publishes[KEEP_PRESENT], 0);
	assert_true(published(1, 50));
	usleep(100000);
	assert_int_equal(fake.publishes[KEEP_PRESENT], 1);
	opened(9, &p);
	assert_int_equal(p.flags, 0);
	assert_true(present_bit(p.durable, 0) && present_bit(p.durable, 8));
	present_free(&p);
	layer_spans_free(&l);
}

/* A sync that is still to be written down must not come after the clean file. */
static void closing_overtakes_a_sync(void **state)
{
	struct layer l;
	struct present p;

	make_layer(&l, 9);
	present_synced(&engine, &l);
	span_set(&l, 2, SPAN_CLEAN);
	assert_int_equal(present_close(&engine, &l, NULL), 0);
	assert_false(published(2, 25));
	opened(9, &p);
	assert_int_equal(p.flags, PRESENT_CLEAN);
	assert_true(present_bit(p.durable, 2));
	present_free(&p);
	layer_spans_free(&l);
}

/* The last test: after it nothing is written any more. */
static void stopping_writes_every_layer(void **state)
{
	struct layer a, b;
	struct present p;
	static const struct digest other = {.sum = {9}};

	make_layer(&a, 4);
	make_layer(&b, 4);
	b.diff_id = other;
	a.next = &b;
	engine.layers = &a;
	span_set(&a, 1, SPAN_CLEAN);
	span_set(&b, 2, SPAN_CLEAN);
	present_synced(&engine, &a);
	assert_int_equal(present_stop(&engine, NULL), 0);
	present_synced(&engine, &b);
	assert_false(published(3, 25));
	opened(4, &p);
	assert_true(p.flags == PRESENT_CLEAN && present_bit(p.durable, 1));
	present_free(&p);
	assert_int_equal(present_open(&engine, &other, &shared, 4, &p, NULL), 0);
	assert_true(p.flags == PRESENT_CLEAN && present_bit(p.durable, 2));
	present_free(&p);
	layer_spans_free(&a);
	layer_spans_free(&b);
}

#define in_store(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(filled_is_complete),
		cmocka_unit_test(any_damage_is_seen),
		cmocka_unit_test(contradictions_are_refused),
		in_store(clean_is_trusted_once),
		in_store(not_clean_is_not_rewritten),
		in_store(without_a_file_nothing_is_there),
		in_store(a_full_store_drops_it),
		in_store(a_clean_file_that_cannot_be_replaced_goes),
		in_store(a_clean_stop_tells_all),
		in_store(complete_needs_every_span),
		in_store(a_quarantine_outlives_engines),
		in_store(syncs_become_one_file),
		in_store(closing_overtakes_a_sync),
		in_store(stopping_writes_every_layer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
