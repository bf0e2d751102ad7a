/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which events are one read with one that was denied (plugin/fault/again.c). Ranges are those a
 * kernel asked for: small and larger files by read(2), with read-ahead and without, and a mapping.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/store/layer.h"

#define KIB 1024u

static struct fault *f;
static struct layer layer, other;

static int up(void **state)
{
	f = calloc(1, sizeof(*f));
	if (f)
		f->slots = calloc(1, sizeof(*f->slots));
	return f && f->slots ? 0 : -1;
}

static int down(void **state)
{
	free(f->slots);
	free(f);
	return 0;
}

/* An event comes in: is it of a read that was denied? It is then refused at once, as content.c
 * does. */
static bool again(struct layer *l, int pid, uint64_t off, uint64_t count)
{
	struct slot *s = &f->slots->s[0];
	bool r;

	*s = (struct slot){.group = SLOT_CONTENT, .pid = pid, .off = off, .count = count};
	f->wait[0] = (struct wait){.layer = l};
	r = fault_is_again(f, 0);
	if (r)
		fault_note_denied(f, 0);
	return r;
}

/* One that is not, which gets its deadline and is denied then. */
static void denied(struct layer *l, int pid, uint64_t off, uint64_t count)
{
	assert_false(again(l, pid, off, count));
	fault_note_denied(f, 0);
}

static void time_goes_by(void)
{
	for (uint32_t k = 0; k < DENIALS; k++)
		f->denied[k].at_ms -= 500;
}

static void a_small_file(void **state)
{
	denied(&layer, 1, 0, 4 * KIB);
	assert_true(again(&layer, 1, 0, 4 * KIB));
	/* Whoever tries again is waited for, each time, and also if he does so at once. */
	for (int i = 0; i < 3; i++)
		denied(&layer, 1, 0, 4 * KIB);
	denied(&layer, 2, 0, 4 * KIB);
	denied(&layer, 2, 0, 4 * KIB);
}

static void read_ahead_in_pieces(void **state)
{
	denied(&layer, 1, 512 * KIB, 64 * KIB);
	assert_true(again(&layer, 1, 576 * KIB, 64 * KIB));
	assert_true(again(&layer, 1, 640 * KIB, 64 * KIB));
	assert_true(again(&layer, 1, 512 * KIB, 4 * KIB));
	for (int i = 0; i < 3; i++)
		denied(&layer, 1, 512 * KIB, 4 * KIB);
	/* All of it was one read. */
	denied(&layer, 1, 640 * KIB, 4 * KIB);
	denied(&layer, 1, 640 * KIB, 4 * KIB);
}

static void a_mapping(void **state)
{
	/* What does not begin at a page's border is asked for with the page it shares. */
	denied(&layer, 1, 0, 128 * KIB);
	assert_true(again(&layer, 1, 124 * KIB, 132 * KIB));
	assert_true(again(&layer, 1, 252 * KIB, 8 * KIB));
	assert_true(again(&layer, 1, 48 * KIB, 8 * KIB));
	denied(&layer, 1, 48 * KIB, 8 * KIB);
}

static void the_keeper_was_first(void **state)
{
	struct slot *s = &f->slots->s[1];

	*s = (struct slot){.group = SLOT_CONTENT, .pid = 1, .off = 0, .count = 12 * KIB};
	atomic_store(&s->state, SLOT_DENIED);
	f->wait[1] = (struct wait){.layer = &layer};
	f->active[f->nactive++] = 1;
	assert_true(again(&layer, 1, 4 * KIB, 4 * KIB));
	/* The tick comes to it now; it is on the record already. */
	fault_note_denied(f, 1);
	assert_int_equal(f->ndenied, 1);
	assert_false(again(&layer, 1, 4 * KIB, 4 * KIB));
}

static void others_are_not_concerned(void **state)
{
	denied(&layer, 1, 64 * KIB, 64 * KIB);
	assert_false(again(&layer, 2, 64 * KIB, 4 * KIB));
	assert_false(again(&other, 1, 64 * KIB, 4 * KIB));
	assert_false(again(&layer, 1, 60 * KIB, 4 * KIB));
	assert_false(again(&layer, 1, 132 * KIB, 4 * KIB));
	assert_true(again(&layer, 1, 64 * KIB, 4 * KIB));
}

static void what_comes_later_is_new(void **state)
{
	denied(&layer, 1, 64 * KIB, 64 * KIB);
	time_goes_by();
	assert_false(again(&layer, 1, 64 * KIB, 4 * KIB));
}

static void an_exec_is_not_noted(void **state)
{
	f->slots->s[0] = (struct slot){.group = SLOT_EXEC, .pid = 1};
	f->wait[0] = (struct wait){.layer = &layer};
	fault_note_denied(f, 0);
	assert_int_equal(f->ndenied, 0);
}

static void a_layer_goes(void **state)
{
	denied(&layer, 1, 0, 64 * KIB);
	denied(&other, 1, 0, 64 * KIB);
	fault_forget_denied(f, &layer);
	assert_false(again(&layer, 1, 0, 4 * KIB));
	assert_true(again(&other, 1, 0, 4 * KIB));
}

static void the_oldest_is_forgotten(void **state)
{
	denied(&layer, 1, 0, 64 * KIB);
	for (int pid = 2; pid < 2 + DENIALS; pid++)
		denied(&layer, pid, 0, 64 * KIB);
	assert_false(again(&layer, 1, 0, 4 * KIB));
	assert_true(again(&layer, 2, 0, 4 * KIB));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_small_file, up, down),
		cmocka_unit_test_setup_teardown(read_ahead_in_pieces, up, down),
		cmocka_unit_test_setup_teardown(a_mapping, up, down),
		cmocka_unit_test_setup_teardown(the_keeper_was_first, up, down),
		cmocka_unit_test_setup_teardown(others_are_not_concerned, up, down),
		cmocka_unit_test_setup_teardown(what_comes_later_is_new, up, down),
		cmocka_unit_test_setup_teardown(an_exec_is_not_noted, up, down),
		cmocka_unit_test_setup_teardown(a_layer_goes, up, down),
		cmocka_unit_test_setup_teardown(the_oldest_is_forgotten, up, down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("again", tests, NULL, NULL);
}
