/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/index/index.h"
#include "plugin/store/layer.h"
#include "plugin/store/pin_make.h"
#include "plugin/store/pins.h"

#define SPAN LIMIT_SPAN_MIN

/* --- paths --- */

static void check_path(const char *text, const char *want)
{
	char out[LIMIT_PATH] = "";

	assert_int_equal(pin_path(text, out), want ? 0 : -EINVAL);
	if (want)
		assert_string_equal(out, want);
}

static void paths_are_normalised(void **state)
{
	check_path("usr/lib", "usr/lib");
	check_path("/usr//lib/", "usr/lib");
	check_path("./usr/./lib", "usr/lib");
	check_path("/..a/b..", "..a/b..");
	check_path("/", NULL);
	check_path("", NULL);
	check_path(".", NULL);
	check_path("usr/../etc", NULL);
	check_path("..", NULL);
}

static void long_paths_are_refused(void **state)
{
	char text[LIMIT_PATH + 2], out[LIMIT_PATH];

	memset(text, 'a', sizeof(text));
	text[LIMIT_PATH - 1] = '\0';
	assert_int_equal(pin_path(text, out), -EINVAL);
	text[LIMIT_PATH - 2] = '\0';
	assert_int_equal(pin_path(text, out), 0);
}

/* --- which bytes of a layer --- */

static struct buf toc;
static uint64_t nentries;

static void put(enum entry_type type, const char *path, const char *target, uint64_t off,
		uint64_t size)
{
	const struct entry en = {.type = type,
				 .path = path,
				 .target = target,
				 .mode = type == ENTRY_WHITEOUT ? 0 : 0755,
				 .tar_offset = off,
				 .size = size};

	assert_int_equal(toc_put(&toc, &en), 0);
	nentries++;
}

static int make_toc(void **state)
{
	buf_init(&toc, 1 << 20);
	nentries = 0;
	put(ENTRY_DIR, "usr", NULL, 0, 0);
	put(ENTRY_DIR, "usr/lib", NULL, 0, 0);
	put(ENTRY_REG, "usr/lib/a", NULL, 512, 100);
	put(ENTRY_REG, "usr/lib/b", NULL, SPAN + 512, 2 * SPAN);
	put(ENTRY_REG, "usr/library", NULL, 5 * SPAN, 10);
	put(ENTRY_REG, "etc", NULL, 6 * SPAN - 512, 1024);
	put(ENTRY_HARDLINK, "link", "usr/library", 0, 0);
	put(ENTRY_SYMLINK, "sym", "usr/library", 0, 0);
	put(ENTRY_WHITEOUT, "gone", NULL, 0, 0);
	put(ENTRY_REG, "empty", NULL, 9 * SPAN, 0);
	return 0;
}

static int drop_toc(void **state)
{
	buf_free(&toc);
	return 0;
}

struct got {
	bool found[4], done[4];
	struct pin_range *v;
	size_t n;
};

static void look(struct got *g, const char *a, const char *b)
{
	const struct index ix = {.tar_size = 10 * SPAN - 100,
				 .span_size = SPAN,
				 .nspans = 10,
				 .nentries = nentries,
				 .toc = toc.data,
				 .toc_len = toc.len};
	struct strv paths = {.n = 0};
	struct err e = ERR_INIT;

	assert_int_equal(strv_add(&paths, a), 0);
	if (b)
		assert_int_equal(strv_add(&paths, b), 0);
	assert_int_equal(pin_ranges(&ix, &paths, g->found, g->done, &g->v, &g->n, &e), 0);
	strv_free(&paths);
}

static void assert_ranges(struct got *g, size_t n, uint64_t off, uint64_t end, uint64_t off2,
			  uint64_t end2)
{
	assert_int_equal(g->n, n);
	if (n > 0) {
		assert_int_equal(g->v[0].off, off);
		assert_int_equal(g->v[0].end, end);
	}
	if (n > 1) {
		assert_int_equal(g->v[1].off, off2);
		assert_int_equal(g->v[1].end, end2);
	}
	free(g->v);
}

static void file_is_its_spans(void **state)
{
	struct got g = {.n = 0};

	look(&g, "usr/lib/b", NULL);
	assert_true(g.found[0]);
	assert_true(g.done[0]);
	assert_ranges(&g, 1, SPAN, 4 * SPAN, 0, 0);
}

static void directory_is_all_below_it(void **state)
{
	struct got g = {.n = 0};

	/* "usr/library" only begins like it. */
	look(&g, "usr/lib", NULL);
	assert_true(g.found[0]);
	assert_false(g.done[0]);
	assert_ranges(&g, 1, 0, 4 * SPAN, 0, 0);
}

static void ranges_are_joined_where_they_touch(void **state)
{
	struct got g = {.n = 0};

	look(&g, "usr", "etc");
	assert_ranges(&g, 2, 0, 4 * SPAN, 5 * SPAN, 7 * SPAN);
}

static void hard_link_is_what_it_links_to(void **state)
{
	struct got g = {.n = 0};

	look(&g, "link", NULL);
	assert_true(g.found[0]);
	assert_true(g.done[0]);
	assert_ranges(&g, 1, 5 * SPAN, 6 * SPAN, 0, 0);
}

static void symbolic_link_is_itself(void **state)
{
	struct got g = {.n = 0};

	look(&g, "sym", NULL);
	assert_true(g.found[0]);
	assert_ranges(&g, 0, 0, 0, 0, 0);
}

static void whiteout_hides_and_is_nothing(void **state)
{
	struct got g = {.n = 0};

	look(&g, "gone", NULL);
	assert_false(g.found[0]);
	assert_true(g.done[0]);
	assert_ranges(&g, 0, 0, 0, 0, 0);
}

static void what_is_settled_above_is_not_looked_for(void **state)
{
	struct got g = {.done = {true}};

	look(&g, "usr/lib/b", "usr/lib/a");
	assert_false(g.found[0]);
	assert_true(g.found[1]);
	assert_ranges(&g, 1, 0, SPAN, 0, 0);
}

static void missing_and_empty(void **state)
{
	struct got g = {.n = 0};

	look(&g, "nowhere", "empty");
	assert_false(g.found[0]);
	assert_false(g.done[0]);
	assert_true(g.found[1]);
	assert_ranges(&g, 0, 0, 0, 0, 0);
}

static void damaged_index_is_an_error(void **state)
{
	const struct index ix = {.tar_size = SPAN,
				 .span_size = SPAN,
				 .nspans = 1,
				 .nentries = nentries + 1,
				 .toc = toc.data,
				 .toc_len = toc.len};
	struct strv paths = {.n = 0};
	bool found[1] = {false}, done[1] = {false};
	struct pin_range *v = NULL;
	struct err e = ERR_INIT;
	size_t n;

	assert_int_equal(strv_add(&paths, "usr"), 0);
	assert_true(pin_ranges(&ix, &paths, found, done, &v, &n, &e) < 0);
	assert_null(v);
	strv_free(&paths);
}

/* --- the file --- */

static struct digest digest_no(uint8_t n)
{
	struct digest d = {.sum = {n}};

	return d;
}

static void make_pins(struct pins *ps)
{
	ps->v = calloc(2, sizeof(*ps->v));
	assert_non_null(ps->v);
	ps->n = 2;
	for (size_t i = 0; i < 2; i++) {
		ps->v[i].image = digest_no((uint8_t)(10 + i));
		ps->v[i].name = strdup(i ? "b:\"1\"" : "a");
		ps->v[i].layers = calloc(1, sizeof(*ps->v[i].layers));
		ps->v[i].nlayers = 1;
		ps->v[i].layers[0].diff_id = digest_no((uint8_t)(20 + i));
	}
	ps->v[0].layers[0].whole = true;
	ps->v[1].layers[0].scope = digest_no(11);
	ps->v[1].layers[0].v = calloc(2, sizeof(struct pin_range));
	ps->v[1].layers[0].v[0] = (struct pin_range){.off = SPAN, .end = 2 * SPAN};
	ps->v[1].layers[0].v[1] = (struct pin_range){.off = 5 * SPAN, .end = 1ull << 40};
	ps->v[1].layers[0].n = 2;
	assert_int_equal(strv_add(&ps->v[1].paths, "usr/lib"), 0);
}

static void pins_survive_the_file(void **state)
{
	_cleanup_pins_ struct pins ps = {.n = 0};
	_cleanup_pins_ struct pins back = {.n = 0};
	_cleanup_buf_ struct buf a = {0};
	_cleanup_buf_ struct buf b = {0};
	struct err e = ERR_INIT;

	buf_init(&a, 1 << 16);
	buf_init(&b, 1 << 16);
	make_pins(&ps);
	assert_int_equal(pins_encode(&ps, &a), 0);
	assert_int_equal(pins_decode(a.data, a.len, &back, &e), 0);
	assert_int_equal(back.n, 2);
	assert_string_equal(back.v[1].name, "b:\"1\"");
	assert_string_equal(back.v[1].paths.v[0], "usr/lib");
	assert_true(back.v[0].layers[0].whole);
	assert_int_equal(back.v[1].layers[0].v[1].end, 1ull << 40);
	assert_int_equal(pins_encode(&back, &b), 0);
	assert_int_equal(a.len, b.len);
	assert_memory_equal(a.data, b.data, a.len);
}

static void bytes_are_covered(void **state)
{
	_cleanup_pins_ struct pins ps = {.n = 0};
	struct digest whole = digest_no(20), parts = digest_no(21), other = digest_no(22);

	make_pins(&ps);
	assert_true(pins_cover(&ps, &whole, 0, 1));
	assert_true(pins_cover(&ps, &whole, 1ull << 41, (1ull << 41) + 1));
	assert_false(pins_cover(&ps, &other, 0, 1));
	assert_false(pins_cover(&ps, &parts, 0, SPAN));
	assert_true(pins_cover(&ps, &parts, 0, SPAN + 1));
	assert_true(pins_cover(&ps, &parts, 2 * SPAN - 1, 2 * SPAN));
	assert_false(pins_cover(&ps, &parts, 2 * SPAN, 5 * SPAN));
	assert_true(pins_cover(&ps, &parts, 0, UINT64_MAX));
}

static void check_bad(const char *text)
{
	struct pins ps = {.n = 7};
	struct err e = ERR_INIT;

	assert_int_equal(pins_decode(text, strlen(text), &ps, &e), -EBADMSG);
	assert_int_equal(ps.n, 7);
	assert_non_null(strstr(e.text, "pins.json"));
}

#define D "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PIN(layers)                                                                                \
	"{\"version\":1,\"pins\":[{\"image\":\"" D                                                 \
	"\",\"name\":\"x\",\"paths\":[],\"layers\":" layers "}]}"

static void other_files_are_refused(void **state)
{
	_cleanup_pins_ struct pins ps = {.n = 0};
	static const char good[] =
		PIN("[{\"diff_id\":\"" D "\",\"whole\":false,\"ranges\":[0,5]}]");
	static const char none[] = "{\"version\":1,\"pins\":[]}";

	assert_int_equal(pins_decode(none, strlen(none), &ps, NULL), 0);
	assert_int_equal(ps.n, 0);
	pins_free(&ps);
	assert_int_equal(pins_decode(good, strlen(good), &ps, NULL), 0);
	assert_int_equal(ps.v[0].layers[0].n, 1);
	check_bad("");
	check_bad("{}");
	check_bad("[]");
	check_bad("{\"version\":2,\"pins\":[]}");
	check_bad("{\"version\":1}");
	check_bad("{\"version\":1,\"pins\":[{}]}");
	check_bad(PIN("7"));
	check_bad(PIN("[{}]"));
	check_bad(PIN("[{\"diff_id\":\"" D "\",\"ranges\":[1]}]"));
	check_bad(PIN("[{\"diff_id\":\"" D "\",\"ranges\":[5,5]}]"));
	check_bad(PIN("[{\"diff_id\":\"" D "\",\"ranges\":[-1,5]}]"));
	check_bad(PIN("[{\"diff_id\":\"" D "\",\"ranges\":[4,8,2,3]}]"));
	check_bad(PIN("[{\"diff_id\":\"" D "\",\"scope\":\"x\",\"ranges\":[]}]"));
}

/* Nothing has been read in this process: nothing may be evicted yet. */
static void unread_pins_keep_everything(void **state)
{
	struct layer l = {.index = {.tar_size = SPAN, .span_size = SPAN, .nspans = 1}};

	assert_true(pins_span(&l, 0));
}

#define with_toc(f) cmocka_unit_test_setup_teardown(f, make_toc, drop_toc)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_normalised),
		cmocka_unit_test(long_paths_are_refused),
		with_toc(file_is_its_spans),
		with_toc(directory_is_all_below_it),
		with_toc(ranges_are_joined_where_they_touch),
		with_toc(hard_link_is_what_it_links_to),
		with_toc(symbolic_link_is_itself),
		with_toc(whiteout_hides_and_is_nothing),
		with_toc(what_is_settled_above_is_not_looked_for),
		with_toc(missing_and_empty),
		with_toc(damaged_index_is_an_error),
		cmocka_unit_test(pins_survive_the_file),
		cmocka_unit_test(bytes_are_covered),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(unread_pins_keep_everything),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
