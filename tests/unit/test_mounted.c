/* SPDX-License-Identifier: Apache-2.0 */
/* Mounted layers by what events name, and what descriptors are shared out for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/limits.h"
#include "plugin/descriptors.h"
#include "plugin/engine.h"
#include "plugin/store/layer.h"

#define MANY (2 * ENGINE_BUCKETS + 7)

/* Each bucket has several, of different devices too. */
static void set_names(struct layer *l, uint64_t i)
{
	l->tar_dev = i % 2;
	l->tar_ino = i / 2;
	l->fs_dev = 3 * i;
}

static void expect_all(struct engine *en, struct layer *l, uint64_t first)
{
	uint64_t listed = 0;

	for (uint64_t i = 0; i < MANY; i++) {
		struct layer *want = i < first ? NULL : &l[i];

		assert_ptr_equal(engine_layer_by_tar(en, i % 2, i / 2), want);
		assert_ptr_equal(engine_layer_by_fs(en, 3 * i), want);
		assert_null(engine_layer_by_fs(en, 3 * i + 1));
	}
	assert_null(engine_layer_by_tar(en, 2, 0));
	for (struct layer *at = en->layers; at; at = at->next)
		listed++;
	assert_int_equal(listed, MANY - first);
}

static void test_found_by_name(void **state)
{
	struct engine *en = calloc(1, sizeof(*en));
	struct layer *l = calloc(MANY, sizeof(*l));

	for (uint64_t i = 0; i < MANY; i++) {
		set_names(&l[i], i);
		engine_layer_add(en, &l[i]);
	}
	expect_all(en, l, 0);
	for (uint64_t i = 0; i < MANY / 2; i++)
		engine_layer_remove(en, &l[i]);
	expect_all(en, l, MANY / 2);
	for (uint64_t i = MANY; i-- > MANY / 2;)
		engine_layer_remove(en, &l[i]);
	expect_all(en, l, MANY);
	free(l);
	free(en);
}

static void test_descriptors_are_enough(void **state)
{
	static const uint32_t limits[] = {LIMIT_NOFILE_LEAST, 1024, 4096, 20000, 1u << 20};
	struct slots *t = calloc(1, sizeof(*t));

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		descriptors_share(t, limits[i]);
		assert_in_range(t->count, 64, LIMIT_SLOTS);
		assert_in_range(t->most_clients, 16, LIMIT_CTL_CLIENTS);
		assert_in_range(descriptors_layers(limits[i]), 32, LIMIT_MOUNTED);
		assert_true(t->count + 3 * t->most_clients + 3 * descriptors_layers(limits[i]) +
				    DESCRIPTORS_SPARE <
			    limits[i]);
	}
	descriptors_share(t, 1u << 20);
	assert_int_equal(t->count, LIMIT_SLOTS);
	free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found_by_name),
		cmocka_unit_test(test_descriptors_are_enough),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("mounted", tests, NULL, NULL);
}
