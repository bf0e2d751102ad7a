/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "oci/erofs/parents.h"
#include "tests/unit/erofs_check.h"
#include "tests/unit/image_of.h"

#define TAR_SIZE   (1u << 20)
#define LAYERS_MAX 8

/* Layers of an image, made of entry lists, bottom first; NULL ends them. */
struct layers {
	struct buf toc[LAYERS_MAX];
	struct index ix[LAYERS_MAX];
	uint32_t n;
};

static void layers_make(struct layers *l, const char *const *lists)
{
	for (l->n = 0; lists[l->n]; l->n++) {
		uint64_t nentries = toc_of(lists[l->n], &l->toc[l->n]);

		l->ix[l->n] = index_of(&l->toc[l->n], nentries, TAR_SIZE);
	}
}

static void layers_done(struct layers *l)
{
	while (l->n > 0)
		buf_free(&l->toc[--l->n]);
}

#define _cleanup_layers_ __attribute__((cleanup(layers_done)))

/* What was found, as an entry list. */
static const char *listed(const struct buf *toc, uint64_t n, struct buf *out)
{
	_cleanup_(toc_reader_freep) struct toc_reader *reader = NULL;
	struct entry en;
	int r;

	buf_init(out, 1 << 20);
	assert_int_equal(toc_reader_new(toc->data, toc->len, n, 0, &reader), 0);
	while ((r = toc_next(reader, &en, NULL)) > 0) {
		assert_int_equal(en.type, ENTRY_DIR);
		buf_printf(out, "%s %o", en.path[0] ? en.path : "/", en.mode);
		if (en.uid || en.gid)
			buf_printf(out, " %u:%u", en.uid, en.gid);
		if (en.mtime || en.mtime_ns)
			buf_printf(out, " t=%lld.%u", (long long)en.mtime, en.mtime_ns);
		for (uint32_t i = 0; i < en.nxattrs; i++)
			buf_printf(out, " %s=%.*s", en.xattrs[i].name, (int)en.xattrs[i].value_len,
				   (const char *)en.xattrs[i].value);
		buf_put_u8(out, '\n');
	}
	assert_int_equal(r, 0);
	return buf_cstr(out);
}

static void expect_of(const char *const *lists, const char *want)
{
	_cleanup_layers_ struct layers l;
	_cleanup_buf_ struct buf toc, text;
	struct err e = ERR_INIT;
	uint64_t n = 99;

	layers_make(&l, lists);
	buf_init(&toc, LIMIT_TOC);
	if (parents_find(l.ix, l.n, &toc, &n, &e) < 0)
		fail_msg("refused: %s", e.text);
	assert_string_equal(listed(&toc, n, &text), want);
}

/* expect(what the parents image describes, layers from the bottom up...) */
#define expect(want, ...) expect_of((const char *const[]){__VA_ARGS__, NULL}, want)

/* --- what is inherited --- */

static void one_layer_needs_nothing(void **state)
{
	expect_of((const char *const[]){NULL}, "");
	expect("", "");
	expect("", "dir / mode=700\ndir a mode=1777\nreg a/x\nreg b/x\n");
}

static void what_all_layers_describe_or_none_does_needs_nothing(void **state)
{
	expect("", "dir tmp mode=1777\n", "dir tmp mode=1777\nreg tmp/x\n");
	expect("", "dir tmp mode=1777\n", "dir tmp mode=755\nreg tmp/x\n");
	expect("", "reg a/b/x\n", "reg a/b/y\n", "reg a/z\n");
	expect("", "reg a/b/x\n", "dir a mode=700\nreg a/b/y\n");
}

static void what_is_implied_inherits_all_that_was_said(void **state)
{
	expect("tmp 1777 5:6 t=-7.8 security.selinux=s user.a=1\n",
	       "dir tmp mode=1777 uid=5 gid=6 mtime=-7 ns=8 x:security.selinux=s x:user.a=1\n",
	       "reg tmp/x\n");
}

static void the_root_too(void **state)
{
	expect("/ 711 1:2\n", "dir / mode=711 uid=1 gid=2\n", "reg x\n");
	expect("/ 711\n", "dir / mode=711\n", "whiteout x\n");
	expect("/ 711\n", "dir / mode=711\n", "opaque /\n");
	expect("/ 711\n", "dir / mode=711\n", "");
	expect("", "reg x\n", "dir / mode=711\n");
}

static void the_topmost_description_counts(void **state)
{
	expect("d 1700 t=1.0\n", "dir d mode=777 x:user.a=1\n", "dir d mode=1700 mtime=1\n",
	       "reg d/x\n");
	expect("", "dir d mode=777\n", "reg d/x\n", "dir d mode=1700\n");
	expect("d 1700\n", "dir d mode=777\n", "reg d/x\n", "dir d mode=1700\n", "reg d/y\n",
	       "reg d/z\n");
}

static void what_lies_above_is_right_too(void **state)
{
	/* `a` is described on top, `a/b` by nobody, `a/b/c` below. */
	expect("a/b/c 700\na 711\n", "dir a mode=700\ndir a/b/c mode=700\n",
	       "dir a mode=711\nreg a/b/c/x\n");
	/* What is beside them stays out. */
	expect("a 711\na/b 700\n", "dir a mode=711\ndir a/b mode=700\ndir a/z mode=700\ndir c\n",
	       "reg a/b/x\ndir c mode=1777\n");
}

static void only_what_the_topmost_layer_that_has_it_implies(void **state)
{
	expect("b 700\n", "dir a mode=700\ndir b mode=700\n", "reg a/x\nreg b/x\n",
	       "dir a mode=710\n", "reg c/x\n");
}

static void a_file_in_a_subdirectory_implies_the_whole_path(void **state)
{
	expect("a 701\na/b 702\na/b/c 704\n",
	       "dir a mode=701\ndir a/b mode=702\ndir a/b/c mode=704\n", "symlink a/b/c/x to=y\n");
	expect("a 701\n", "dir a mode=701\n", "whiteout a/b/c/x\n");
}

static void hard_links_imply_where_they_lie_not_where_they_point(void **state)
{
	expect("b 702\n", "dir a mode=701\ndir b mode=702\ndir c mode=704\n",
	       "dir a mode=711\nreg a/x\nlink b/y to=a/x\nwhiteout c\n");
}

/* --- what is taken away --- */

static void a_whiteout_takes_the_directory_away(void **state)
{
	expect("", "dir d mode=1777\n", "whiteout d\n");
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "reg d/e/x\n", "whiteout d\n");
	expect("d 1777\n", "dir d mode=1777\ndir d/e mode=700\n", "reg d/e/x\n", "whiteout d/e\n");
}

static void what_is_made_again_starts_from_nothing(void **state)
{
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "whiteout d\n", "reg d/e/x\n");
	expect("d 711\n", "dir d mode=1777\n", "whiteout d\n", "dir d mode=711\n", "reg d/x\n");
	/* In one layer, in either order: whiteouts speak of what is below. */
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "whiteout d\nreg d/e/x\n");
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "reg d/e/x\nwhiteout d\n");
	expect("d 711\n", "dir d mode=1777\n", "whiteout d\ndir d mode=711\n", "reg d/x\n");
}

static void an_opaque_directory_hides_what_is_in_it_but_not_itself(void **state)
{
	expect("d 1777\n", "dir d mode=1777\ndir d/e mode=700\n", "opaque d\nreg d/e/x\n");
	expect("d 1777\n", "dir d mode=1777\ndir d/e mode=700\n", "opaque d\n", "reg d/e/x\n");
	expect("d 711\nd/f 701\n", "dir d mode=1777\ndir d/e mode=700\n",
	       "dir d mode=711\nopaque d\ndir d/f mode=701\n", "reg d/e/x\nreg d/f/x\n");
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "opaque /\nreg d/e/x\n");
}

static void another_kind_of_file_takes_it_away(void **state)
{
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "reg d\n");
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "symlink d to=x\n", "reg d/e/x\n");
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "fifo d\n", "reg d/e/x\n");
	/* A device 0:0 is what overlayfs takes for a whiteout, whoever wrote it. */
	expect("", "dir d mode=1777\ndir d/e mode=700\n", "chr d dev=0:0\n", "reg d/e/x\n");
	expect("", "dir d mode=1777\n", "reg f\nlink d to=f\n", "reg d/x\n");
}

static void siblings_of_what_goes_stay(void **state)
{
	expect("a 701\nc 704\n", "dir a mode=701\ndir b mode=702\ndir c mode=704\ndir d mode=700\n",
	       "reg a/x\nreg b/x\nreg c/x\nreg d/x\n", "whiteout b\nreg d\n");
}

/* --- the rules of one layer are tree.h's --- */

static void the_last_of_several_descriptions_counts(void **state)
{
	expect("d 702\n", "dir d mode=701\nreg d/y\ndir d mode=702\n", "reg d/x\n");
	expect("", "dir d mode=701\n", "reg d/x\ndir d mode=702\n");
	expect("", "dir d mode=701\n", "dir d mode=702\nreg d/x\n");
}

static void what_was_replaced_within_its_layer_says_nothing(void **state)
{
	expect("", "dir d mode=701\ndir d/e mode=702\nreg d\n", "reg d/e/x\n");
	/* `d` is there again, but `d/e` is not the one that was described. */
	expect("d 704\n", "dir d mode=701\ndir d/e mode=702\nreg d\ndir d mode=704\nreg d/e/y\n",
	       "reg d/e/x\n");
}

static void names_are_compared_as_bytes(void **state)
{
	expect("a 700\na-b 701\na.b 702\n",
	       "dir a mode=700\ndir a-b mode=701\ndir a.b mode=702\ndir ab mode=704\n",
	       "reg a.b/x\nreg a/x\nreg a-b/x\n");
	expect("\xff 700\n", "dir \xff mode=700\ndir ~ mode=701\n", "reg \xff/x\nwhiteout ~\n");
}

static void the_order_is_that_of_the_layers(void **state)
{
	expect("z 700\nb 702\na 701\n", "dir z mode=700\n", "dir b mode=702\ndir a mode=701\n",
	       "reg a/x\nreg b/x\nreg z/x\n");
}

/* As deep as a tree may be: nothing here may recurse. */
static void a_very_deep_directory(void **state)
{
	_cleanup_buf_ struct buf lower = {.max = 1 << 20}, upper = {.max = 1 << 20};
	_cleanup_buf_ struct buf want = {.max = 1 << 20};

	buf_put_str(&lower, "dir ");
	buf_put_str(&upper, "reg ");
	for (unsigned i = 0; i < LIMIT_TREE_DEPTH - 1; i++) {
		buf_printf(&lower, "%sa", i ? "/" : "");
		buf_printf(&upper, "a/");
		buf_printf(&want, "%sa", i ? "/" : "");
	}
	buf_put_str(&lower, " mode=700");
	buf_put_str(&upper, "x");
	buf_put_str(&want, " 700\n");
	assert_non_null(buf_cstr(&lower));
	assert_non_null(buf_cstr(&upper));
	expect(buf_cstr(&want), (const char *)lower.data, (const char *)upper.data);
}

/* --- failures --- */

static int find(const struct layers *l, size_t max, struct err *e)
{
	_cleanup_buf_ struct buf toc;
	uint64_t n = 99;
	int r;

	buf_init(&toc, max);
	r = parents_find(l->ix, l->n, &toc, &n, e);
	assert_int_equal(n == 99, r < 0);
	return r;
}

static void a_layer_that_breaks_the_rules_is_named(void **state)
{
	static const char *const lists[] = {"dir d\n", "reg d\nreg d/x\n", NULL};
	_cleanup_layers_ struct layers l;
	struct err e = ERR_INIT;

	layers_make(&l, lists);
	memset(l.ix[1].diff_id.sum, 0xab, DIGEST_SIZE);
	assert_int_equal(find(&l, LIMIT_TOC, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "layer sha256:abab"));
	assert_non_null(strstr(e.text, "a parent directory is a file"));
}

static void a_table_that_is_damaged(void **state)
{
	static const char *const lists[] = {"dir d\n", "reg d/x\n", NULL};
	_cleanup_layers_ struct layers l;
	struct err e = ERR_INIT;

	layers_make(&l, lists);
	l.ix[0].toc_len--;
	assert_int_equal(find(&l, LIMIT_TOC, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "layer sha256:"));
}

static void more_than_there_is_room_for(void **state)
{
	static const char *const lists[] = {"dir d\ndir e\n", "reg d/x\nreg e/x\n", NULL};
	_cleanup_layers_ struct layers l;
	struct err e = ERR_INIT;

	layers_make(&l, lists);
	assert_int_equal(find(&l, 40, &e), -EFBIG);
	assert_true(e.text[0]);
	assert_int_equal(find(&l, LIMIT_TOC, &e), 0);
}

/* --- the image --- */

static struct digest digest_of_text(const char *text)
{
	struct digest d;

	assert_int_equal(digest_of(text, strlen(text), &d), 0);
	return d;
}

static int image_of_toc(const char *list, const struct digest *of)
{
	_cleanup_buf_ struct buf toc;
	_cleanup_fd_ int fd = memfd_create("parents", MFD_CLOEXEC);
	uint64_t n = toc_of(list, &toc);
	struct err e = ERR_INIT;

	if (parents_write(&toc, n, of, fd, &e) < 0)
		fail_msg("%s", e.text);
	return take_fd(&fd);
}

static void an_image_without_a_device(void **state)
{
	struct digest of = digest_of_text("manifest");
	_cleanup_fd_ int fd = image_of_toc("dir / mode=711\ndir a/b mode=1777 x:user.a=1\n", &of);
	_cleanup_buf_ struct buf bytes;
	struct err e = ERR_INIT;
	uint16_t devices = 1;
	uint32_t features = 1;

	buf_init(&bytes, 1 << 20);
	assert_int_equal(fd_read_all(fd, &bytes), 0);
	memcpy(&features, bytes.data + 1024 + 80, sizeof(features));
	memcpy(&devices, bytes.data + 1024 + 86, sizeof(devices));
	assert_int_equal(features, 0);
	assert_int_equal(devices, 0);
	if (parents_check(fd, &of, &e) < 0)
		fail_msg("%s", e.text);
}

static void an_image_of_something_else(void **state)
{
	struct digest of = digest_of_text("manifest"), other = digest_of_text("another");
	_cleanup_fd_ int fd = image_of_toc("dir d mode=1777\n", &of);
	struct err e = ERR_INIT;
	struct stat st;

	assert_int_equal(parents_check(fd, &other, &e), -EBADMSG);
	assert_string_equal(e.text, "the directories of the image are another's");
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
	assert_int_equal(parents_check(fd, &of, &e), -EBADMSG);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(parents_check(fd, &of, &e), -EBADMSG);
}

static void data_needs_a_device(void **state)
{
	_cleanup_fd_ int fd = memfd_create("parents", MFD_CLOEXEC);
	_cleanup_buf_ struct buf toc;
	struct err e = ERR_INIT;
	struct index ix;
	uint64_t n;

	n = toc_of("reg f size=1 at=0\n", &toc);
	ix = index_of(&toc, n, 512);
	assert_int_equal(erofs_image_write_alone(&ix, "x", fd, &e), -EINVAL);
	ix.tar_size = 0;
	assert_int_equal(erofs_image_write_alone(&ix, "x", fd, &e), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_layer_needs_nothing),
		cmocka_unit_test(what_all_layers_describe_or_none_does_needs_nothing),
		cmocka_unit_test(what_is_implied_inherits_all_that_was_said),
		cmocka_unit_test(the_root_too),
		cmocka_unit_test(the_topmost_description_counts),
		cmocka_unit_test(what_lies_above_is_right_too),
		cmocka_unit_test(only_what_the_topmost_layer_that_has_it_implies),
		cmocka_unit_test(a_file_in_a_subdirectory_implies_the_whole_path),
		cmocka_unit_test(hard_links_imply_where_they_lie_not_where_they_point),
		cmocka_unit_test(a_whiteout_takes_the_directory_away),
		cmocka_unit_test(what_is_made_again_starts_from_nothing),
		cmocka_unit_test(an_opaque_directory_hides_what_is_in_it_but_not_itself),
		cmocka_unit_test(another_kind_of_file_takes_it_away),
		cmocka_unit_test(siblings_of_what_goes_stay),
		cmocka_unit_test(the_last_of_several_descriptions_counts),
		cmocka_unit_test(what_was_replaced_within_its_layer_says_nothing),
		cmocka_unit_test(names_are_compared_as_bytes),
		cmocka_unit_test(the_order_is_that_of_the_layers),
		cmocka_unit_test(a_very_deep_directory),
		cmocka_unit_test(a_layer_that_breaks_the_rules_is_named),
		cmocka_unit_test(a_table_that_is_damaged),
		cmocka_unit_test(more_than_there_is_room_for),
		cmocka_unit_test(an_image_without_a_device),
		cmocka_unit_test(an_image_of_something_else),
		cmocka_unit_test(data_needs_a_device),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
