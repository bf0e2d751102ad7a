/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/erofs/tree.h"
#include "oci/index/entry.h"
#include "tests/unit/entry_list.h"

#define TAR_SIZE (1ull << 40)

/* The tree of a list, or the failure of its last line. */
static int build(const char *list, struct erofs_tree **ret, struct err *e)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	static struct entry_line line;
	int r;

	assert_int_equal(erofs_tree_new("layer 1", TAR_SIZE, &t), 0);
	while (entry_list_next(&list, &line)) {
		r = erofs_tree_add(t, &line.entry, e);
		if (r < 0) {
			assert_string_equal(list, "");
			return r;
		}
	}
	r = erofs_tree_finish(t, e);
	if (r == 0)
		*ret = take_ptr(t);
	return r;
}

static void put_path(struct buf *out, const struct name *name)
{
	if (name->dir && name->dir->dir.self->dir) {
		put_path(out, name->dir->dir.self);
		buf_put_u8(out, '/');
	}
	buf_put(out, name->text, name->len);
}

static void put_node(struct buf *out, const struct node *n)
{
	static const char types[] = "?pc?d?b?-?l?s???";

	buf_printf(out, " %c%o", types[n->mode >> 12 & 15], n->mode & 07777u);
	if (n->nlink != (S_ISDIR(n->mode) ? 2 : 1))
		buf_printf(out, " n=%u", n->nlink);
	if (n->uid || n->gid)
		buf_printf(out, " %u:%u", n->uid, n->gid);
	if (n->mtime || n->mtime_ns)
		buf_printf(out, " t=%lld.%09u", (long long)n->mtime, n->mtime_ns);
	if (S_ISREG(n->mode) && n->data.size)
		buf_printf(out, " %llu@%llu", (unsigned long long)n->data.size,
			   (unsigned long long)n->data.tar_off);
	if (S_ISLNK(n->mode))
		buf_printf(out, " -> %s", n->target);
	if (S_ISCHR(n->mode) || S_ISBLK(n->mode))
		buf_printf(out, " %x", n->rdev);
	if (n->xattrs_len)
		buf_printf(out, " x=%u", n->xattrs_len);
	if (n->opaque)
		buf_put_str(out, " opaque");
	buf_put_u8(out, '\n');
}

/* One line for each name, directories in the order in which they are met; dots left out. */
static const char *dump(const struct erofs_tree *t, struct buf *out)
{
	buf_put_u8(out, '/');
	put_node(out, t->nodes[0]);
	for (size_t i = 0; i < t->n; i++) {
		const struct node *n = t->nodes[i];

		for (size_t j = 0; S_ISDIR(n->mode) && j < n->dir.n; j++) {
			const struct name *name = n->dir.sorted[j];

			if (strcmp(name->text, ".") == 0 || strcmp(name->text, "..") == 0)
				continue;
			put_path(out, name);
			put_node(out, name->node);
		}
	}
	return buf_cstr(out);
}

static void expect(const char *list, const char *want)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	_cleanup_buf_ struct buf out = {.max = 1 << 20};
	struct err e = ERR_INIT;

	if (build(list, &t, &e) < 0)
		fail_msg("refused: %s", e.text);
	assert_string_equal(dump(t, &out), want);
}

static void expect_refusal(const char *list, const char *want)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(build(list, &t, &e), -EBADMSG);
	assert_string_equal(e.text, want);
}

static void an_empty_layer_is_a_root(void **state)
{
	expect("", "/ d755\n");
	expect("dir / mode=1700 uid=5 mtime=-9 ns=7\n", "/ d1700 5:0 t=-9.000000007\n");
}

static void every_type_keeps_what_it_has(void **state)
{
	expect("reg r mode=4755 uid=4000000000 gid=2 mtime=-1 ns=999999999 size=7 at=512\n"
	       "reg empty mode=600 at=1024\n"
	       "symlink s mode=777 to=../x\n"
	       "chr c mode=666 dev=1:3\n"
	       "blk b mode=660 dev=259:300000\n"
	       "fifo f mode=644\n"
	       "dir d mode=2755 x:user.a=1\n",
	       "/ d755 n=3\n"
	       "b b660 493103e0\n"
	       "c c666 103\n"
	       "d d2755 x=8\n"
	       "empty -600\n"
	       "f p644\n"
	       "r -4755 4000000000:2 t=-1.999999999 7@512\n"
	       "s l777 -> ../x\n");
}

static void names_are_sorted_as_bytes_with_the_dots_among_them(void **state)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	static const char *const want[] = {"!", "-", ".", "..", ".a", "A", "a", "aa", "\xff"};
	struct err e = ERR_INIT;

	assert_int_equal(build("reg a\nreg \xff\nreg -\nreg aa\nreg !\nreg A\nreg .a\n", &t, &e),
			 0);
	assert_int_equal(t->root->node->dir.n, 9);
	for (size_t i = 0; i < 9; i++)
		assert_string_equal(t->root->node->dir.sorted[i]->text, want[i]);
}

static void missing_parents_are_made(void **state)
{
	expect("reg a/b/c mode=600\n", "/ d755 n=3\na d755 n=3\na/b d755\na/b/c -600\n");
	/* Their own entry may come later. */
	expect("reg a/b\ndir a mode=700 uid=1\n", "/ d755 n=3\na d700 1:0\na/b -0\n");
}

static void the_last_of_one_name_wins(void **state)
{
	expect("reg a mode=600 size=1 at=512\nreg a mode=644 size=2 at=2048\n",
	       "/ d755\na -644 2@2048\n");
	expect("reg a\nsymlink a mode=644 to=b\n", "/ d755\na l777 -> b\n");
	expect("symlink a to=b\ndir a mode=755\nreg a/x\n", "/ d755 n=3\na d755\na/x -0\n");
	expect("dir / mode=700\nreg a\ndir / mode=711\n", "/ d711\na -0\n");
}

static void a_directory_over_a_directory_keeps_what_is_in_it(void **state)
{
	expect("dir a mode=700 uid=3 x:user.k=v\nreg a/b\ndir a mode=755\nreg a/c\n",
	       "/ d755 n=3\na d755\na/b -0\na/c -0\n");
}

static void any_other_replacement_drops_what_was_below(void **state)
{
	expect("dir a\ndir a/b\nreg a/b/c\nreg a mode=644\n", "/ d755\na -644\n");
	expect("dir a\nreg a/b\nreg a\ndir a mode=755\nreg a/c\n", "/ d755 n=3\na d755\na/c -0\n");
}

static void hard_links_share_a_node(void **state)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	struct err e = ERR_INIT;

	expect("reg d/a mode=640 uid=9 size=5 at=512\nlink b to=d/a\nlink d/c to=b\n",
	       "/ d755 n=3\nb -640 n=3 9:0 5@512\nd d755\n"
	       "d/a -640 n=3 9:0 5@512\nd/c -640 n=3 9:0 5@512\n");
	expect("symlink a mode=777 to=x\nlink b to=a\nfifo f\nlink g to=f\n",
	       "/ d755\na l777 n=2 -> x\nb l777 n=2 -> x\nf p0 n=2\ng p0 n=2\n");
	assert_int_equal(build("reg a\nlink b to=a\n", &t, &e), 0);
	assert_int_equal(t->n, 2);
	/* To itself it says nothing. */
	expect("reg a mode=600\nlink a to=a\n", "/ d755\na -600\n");
}

static void a_link_keeps_its_node_when_the_first_name_is_replaced(void **state)
{
	expect("reg a size=1 at=512\nlink b to=a\nlink c to=a\nreg a size=2 at=2048\n",
	       "/ d755\na -0 2@2048\nb -0 n=2 1@512\nc -0 n=2 1@512\n");
	expect("reg d/a size=1 at=512\nlink b to=d/a\nreg d\n", "/ d755\nb -0 1@512\nd -0\n");
	/* The link may even take the place of the directory that its target is in. */
	expect("reg d/a size=1 at=512\nlink d to=d/a\n", "/ d755\nd -0 1@512\n");
	expect("reg a size=1 at=512\nlink b to=a\ndir a mode=700\n",
	       "/ d755 n=3\na d700\nb -0 1@512\n");
	/* A link that came later than the replacement names the new file. */
	expect("reg a size=1 at=512\nreg a size=2 at=2048\nlink b to=a\n",
	       "/ d755\na -0 n=2 2@2048\nb -0 n=2 2@2048\n");
}

static void hard_links_to_nothing_are_refused(void **state)
{
	expect_refusal("link b to=a\n",
		       "layer 1: entry 'b': a hard link to nothing that came before it");
	expect_refusal("reg a\nlink b to=a/x\n",
		       "layer 1: entry 'b': a hard link to nothing that came before it");
	expect_refusal("whiteout a\nlink b to=a\n",
		       "layer 1: entry 'b': a hard link to nothing that came before it");
	expect_refusal("dir a\nreg a/x\nreg a\nlink b to=a/x\n",
		       "layer 1: entry 'b': a hard link to nothing that came before it");
	expect_refusal("dir a\nlink b to=a\n", "layer 1: entry 'b': a hard link to a directory");
	expect_refusal("reg x\nlink b to=../x\n",
		       "layer 1: entry 'b': a hard link to nothing that came before it");
	/* Not even when the link would lead to a file. */
	expect_refusal("reg d/x\nsymlink s to=d\nlink b to=s/x\n",
		       "layer 1: entry 'b': a hard link to nothing that came before it");
}

static void parents_that_are_no_directories_are_refused(void **state)
{
	expect_refusal("reg a\nreg a/b\n", "layer 1: entry 'a/b': a parent directory is a file");
	expect_refusal("dir d\nsymlink a to=d\nreg a/b\n",
		       "layer 1: entry 'a/b': a parent directory is a symbolic link");
	expect_refusal("fifo a\nwhiteout a/b\n",
		       "layer 1: entry 'a/b': a parent directory is a file");
	expect_refusal("reg x\nreg a\nlink a/b to=x\n",
		       "layer 1: entry 'a/b': a parent directory is a file");
}

static void a_whiteout_is_a_device_0_0(void **state)
{
	expect("whiteout a/b\n", "/ d755 n=3\na d755\na/b c0 0\n");
}

static void a_whiteout_hides_nothing_of_its_own_layer(void **state)
{
	expect("whiteout a\nreg a mode=600\n", "/ d755\na -600\n");
	expect("reg a mode=600\nwhiteout a\n", "/ d755\na -600\n");
	/* A directory instead must not let the hidden one shine through. */
	expect("whiteout a\ndir a mode=700\nreg a/b\n", "/ d755 n=3\na d700 opaque\na/b -0\n");
	expect("dir a mode=700\nreg a/b\nwhiteout a\n", "/ d755 n=3\na d700 opaque\na/b -0\n");
	expect("whiteout a\nreg a/b\n", "/ d755 n=3\na d755 opaque\na/b -0\n");
	expect("whiteout a\nreg a\ndir a mode=700\n", "/ d755 n=3\na d700 opaque\n");
}

static void opaque_markers_come_in_any_order(void **state)
{
	expect("dir a mode=700\nopaque a\n", "/ d755 n=3\na d700 opaque\n");
	expect("opaque a\ndir a mode=700\n", "/ d755 n=3\na d700 opaque\n");
	expect("opaque a/b\n", "/ d755 n=3\na d755 n=3\na/b d755 opaque\n");
	expect("opaque a\nreg a/b\ndir a mode=711\ndir a mode=700\n",
	       "/ d755 n=3\na d700 opaque\na/b -0\n");
	expect("opaque /\n", "/ d755 opaque\n");
	expect("dir a\nopaque a\nreg a\n", "/ d755\na -0\n");
	expect_refusal("reg a\nopaque a\n",
		       "layer 1: entry 'a': an opaque marker in what is not a directory");
}

static void the_root_stays_a_directory(void **state)
{
	expect_refusal("reg /\n", "layer 1: entry '': the root can only be a directory");
	expect_refusal("symlink / to=a\n", "layer 1: entry '': the root can only be a directory");
	expect_refusal("reg a\nlink / to=a\n",
		       "layer 1: entry '': the root can only be a directory");
	expect_refusal("whiteout /\n", "layer 1: entry '': the root can only be a directory");
}

static void overlay_attributes_are_ours_alone(void **state)
{
	expect("dir a x:trusted.overlay.opaque=y x:trusted.overlay.redirect=/etc\n",
	       "/ d755 n=3\na d0\n");
	expect("dir a x:user.overlay.opaque=y x:user.overlays=1\n", "/ d755 n=3\na d0 x=16\n");
}

static void attributes_without_a_place_are_refused(void **state)
{
	expect_refusal("reg a x:system.nfs4_acl=1\n",
		       "layer 1: entry 'a': EROFS has no place for the attribute "
		       "'system.nfs4_acl'");
	expect_refusal("reg a x:user.=1\n",
		       "layer 1: entry 'a': EROFS has no place for the attribute 'user.'");
	expect_refusal("reg a x:system.posix_acl_access.x=1\n",
		       "layer 1: entry 'a': EROFS has no place for the attribute "
		       "'system.posix_acl_access.x'");
}

static void more_attributes_than_fit_are_refused(void **state)
{
	static uint8_t value[LIMIT_XATTR_VALUE];
	struct entry_xattr x[] = {
		{"user.a", value, sizeof(value)},
		{"user.b", value, sizeof(value)},
		{"user.c", value, sizeof(value)},
		{"user.d", value, 65400},
		{"user.e", value, 83},
	};
	struct entry en = {.type = ENTRY_REG, .path = "a", .xattrs = x, .nxattrs = 5};
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(erofs_tree_new("layer 1", 0, &t), 0);
	assert_int_equal(erofs_tree_add(t, &en, &e), 0);
	x[4].value_len++;
	assert_int_equal(erofs_tree_add(t, &en, &e), -EBADMSG);
	assert_string_equal(e.text, "layer 1: entry 'a': more attributes than fit one inode "
				    "(262116 bytes)");
}

static void paths_that_are_not_clean_are_refused(void **state)
{
	static const char *const bad[] = {"/a", "a/", "a//b", ".", "..", "a/..", "./a", "a/./b"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct entry en = {.type = ENTRY_DIR, .path = bad[i]};
		_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
		struct err e = ERR_INIT;

		assert_int_equal(erofs_tree_new("layer 1", 0, &t), 0);
		assert_int_equal(erofs_tree_add(t, &en, &e), -EBADMSG);
		assert_non_null(strstr(e.text, "the path is not a clean one"));
	}
	expect_refusal("reg n*256\n",
		       "layer 1: entry "
		       "'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		       "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		       "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': the path is "
		       "not a clean one");
}

static void values_out_of_range_are_refused(void **state)
{
	expect_refusal("reg a size=1 at=513\n",
		       "layer 1: entry 'a': the data is not at a block of the tar");
	expect_refusal("reg a size=513 at=1099511627264\n",
		       "layer 1: entry 'a': the data is not at a block of the tar");
	expect_refusal("reg a size=18446744073709551615 at=512\n",
		       "layer 1: entry 'a': the data is not at a block of the tar");
	expect_refusal("chr a dev=4096:0\n",
		       "layer 1: entry 'a': a device number that Linux does not have");
	expect_refusal("blk a dev=0:1048576\n",
		       "layer 1: entry 'a': a device number that Linux does not have");
	expect_refusal("reg a ns=1000000000\n",
		       "layer 1: entry 'a': a modification time that is none");
	expect_refusal("symlink a to=\n",
		       "layer 1: entry 'a': a symbolic link of no or too many bytes");
	expect_refusal("symlink a to=x*4096\n",
		       "layer 1: entry 'a': a symbolic link of no or too many bytes");
}

static void deep_trees_need_no_stack(void **state)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	struct entry en = {.type = ENTRY_REG};
	struct err e = ERR_INIT;
	char path[LIMIT_PATH];

	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 2 ? '/' : 'd';
	path[sizeof(path) - 1] = '\0';
	en.path = path;
	assert_int_equal(erofs_tree_new("layer 1", 0, &t), 0);
	assert_int_equal(erofs_tree_add(t, &en, &e), 0);
	assert_int_equal(erofs_tree_finish(t, &e), 0);
	assert_int_equal(t->n, 2049);
}

static void paths_are_told_from_their_end(void **state)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	const struct name *name;
	char out[16];

	assert_int_equal(build("reg one/two/three\n", &t, NULL), 0);
	name = t->root->node->dir.names->node->dir.names->node->dir.names;
	assert_string_equal(erofs_tree_path(name, out, 16), "one/two/three");
	assert_string_equal(erofs_tree_path(name, out, 14), "one/two/three");
	assert_string_equal(erofs_tree_path(name, out, 13), "ne/two/three");
	assert_string_equal(erofs_tree_path(name, out, 10), "two/three");
	assert_string_equal(erofs_tree_path(name, out, 9), "wo/three");
	assert_string_equal(erofs_tree_path(name, out, 3), "ee");
	assert_string_equal(erofs_tree_path(name, out, 1), "");
	assert_string_equal(erofs_tree_path(t->root, out, 16), "");
}

/* One entry can ask for two thousand directories: what comes of a list has a limit of its own. */
static void unnamed_parents_count_too(void **state)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	struct entry en = {.type = ENTRY_REG};
	struct err e = ERR_INIT;
	char path[LIMIT_PATH];
	int r = 0;

	assert_int_equal(erofs_tree_new("layer 1", 0, &t), 0);
	for (unsigned int i = 0; r == 0 && i < LIMIT_ENTRIES; i++) {
		int n = snprintf(path, sizeof(path), "%u", i);

		for (size_t j = (size_t)n; j + 2 < sizeof(path); j += 2)
			memcpy(path + j, "/d", 3);
		en.path = path;
		r = erofs_tree_add(t, &en, &e);
	}
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(e.text, "more than 4194304 files"));
	assert_true(t->nnodes <= LIMIT_ENTRIES);
}

/* Quadratic work would take minutes here. */
static void a_large_directory_takes_no_time(void **state)
{
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = NULL;
	struct entry en = {.type = ENTRY_REG};
	struct err e = ERR_INIT;
	char path[64];
	clock_t start = clock();

	assert_int_equal(erofs_tree_new("layer 1", 0, &t), 0);
	for (unsigned int i = 0; i < 300000; i++) {
		snprintf(path, sizeof(path), "dir/%u", i * 7919 % 300000);
		en.path = path;
		assert_int_equal(erofs_tree_add(t, &en, &e), 0);
	}
	assert_int_equal(erofs_tree_finish(t, &e), 0);
	assert_int_equal(t->n, 300002);
	assert_true(clock() - start < 20 * CLOCKS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_layer_is_a_root),
		cmocka_unit_test(every_type_keeps_what_it_has),
		cmocka_unit_test(names_are_sorted_as_bytes_with_the_dots_among_them),
		cmocka_unit_test(missing_parents_are_made),
		cmocka_unit_test(the_last_of_one_name_wins),
		cmocka_unit_test(a_directory_over_a_directory_keeps_what_is_in_it),
		cmocka_unit_test(any_other_replacement_drops_what_was_below),
		cmocka_unit_test(hard_links_share_a_node),
		cmocka_unit_test(a_link_keeps_its_node_when_the_first_name_is_replaced),
		cmocka_unit_test(hard_links_to_nothing_are_refused),
		cmocka_unit_test(parents_that_are_no_directories_are_refused),
		cmocka_unit_test(a_whiteout_is_a_device_0_0),
		cmocka_unit_test(a_whiteout_hides_nothing_of_its_own_layer),
		cmocka_unit_test(opaque_markers_come_in_any_order),
		cmocka_unit_test(the_root_stays_a_directory),
		cmocka_unit_test(overlay_attributes_are_ours_alone),
		cmocka_unit_test(attributes_without_a_place_are_refused),
		cmocka_unit_test(more_attributes_than_fit_are_refused),
		cmocka_unit_test(paths_that_are_not_clean_are_refused),
		cmocka_unit_test(values_out_of_range_are_refused),
		cmocka_unit_test(deep_trees_need_no_stack),
		cmocka_unit_test(paths_are_told_from_their_end),
		cmocka_unit_test(unnamed_parents_count_too),
		cmocka_unit_test(a_large_directory_takes_no_time),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
