/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hooks/args.h"
#include "hooks/attach.h"
#include "hooks/edit.h"
#include "hooks/mountinfo.h"
#include "hooks/spec.h"
#include "hooks/state.h"
#include "hooks/walk.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"
#include "tests/unit/scratch.h"

/* A directory of the test's own. */
struct scratch {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));

	snprintf(s->path, sizeof(s->path), "/tmp/test-attach.XXXXXX");
	assert_non_null(mkdtemp(s->path));
	s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scratch *s = *state;

	close(s->fd);
	assert_int_equal(scratch_remove(s->path), 0);
	free(s);
	return 0;
}

static void put_file(struct scratch *s, const char *name, const char *text)
{
	assert_int_equal(fd_publish(s->fd, name, text, strlen(text), 0644, NULL), 0);
}

static void test_ids(void **state)
{
	static const char *const good[] = {"a", "0", "A_b.c+d-e", "tarn-00ff"};
	static const char *const bad[] = {"",   ".",  "..",  "../x", "a/b",      "-a",
					  "_a", "+a", "a b", "a\nb", "\xc3\xa4", "a*"};
	char longest[LIMIT_ID + 1];

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(attach_id_check(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(attach_id_check(bad[i], NULL), -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[LIMIT_ID - 1] = '\0';
	assert_int_equal(attach_id_check(longest, NULL), 0);
	longest[LIMIT_ID - 1] = 'x';
	longest[LIMIT_ID] = '\0';
	assert_int_equal(attach_id_check(longest, NULL), -EINVAL);
}

/* --- command lines --- */

struct line {
	const char *text;    /* words */
	const char *command; /* what is expected */
	const char *id, *bundle, *rest;
};

static void check_line(const struct line *l)
{
	_cleanup_args_ struct args a = {0};
	_cleanup_free_ char *text = strdup(l->text);
	char *argv[32], *save = text, rest[512] = "";
	int argc = 0;

	for (char *p = strsep(&save, " "); p; p = strsep(&save, " "))
		argv[argc++] = p;
	assert_int_equal(args_parse(argc, argv, &a, NULL), 0);
	for (int i = 0; i < a.argc; i++)
		snprintf(rest + strlen(rest), sizeof(rest) - strlen(rest), "%s%s", i ? " " : "",
			 a.argv[i]);
	assert_null(a.argv[a.argc]);
	assert_string_equal(rest, l->rest ? l->rest : l->text);
	if (!l->command) {
		assert_null(a.command);
		return;
	}
	assert_string_equal(a.command, l->command);
	if (l->id)
		assert_string_equal(a.id, l->id);
	else
		assert_null(a.id);
	assert_string_equal(a.bundle, l->bundle ? l->bundle : ".");
}

static void test_args(void **state)
{
	static const struct line lines[] = {
		{"r", NULL, NULL, NULL, NULL},
		{"r --version", NULL, NULL, NULL, NULL},
		{"r run c", "run", "c", NULL, NULL},
		{"r --root create delete c", "delete", NULL, NULL, NULL},
		{"r --root=x --debug create -b B c", "create", "c", "B", NULL},
		{"r -root x create --bundle B c", "create", "c", "B", NULL},
		{"r --log run --log-format json create --bundle=B c", "create", "c", "B", NULL},
		{"r create c --bundle B", "create", "c", "B", NULL},
		{"r create -bB --pid-file run c", "create", "c", "B", NULL},
		{"r create --preserve-fds 3 --console-socket s c", "create", "c", NULL, NULL},
		{"r run -d --no-pivot -- c", "run", "c", NULL, NULL},
		{"r run --bundle", "run", NULL, NULL, NULL},
		{"r exec c run --bundle X", "exec", NULL, NULL, NULL},
		{"r --tarn-runtime crun --root x run c", "run", "c", NULL, "r --root x run c"},
		{"r --tarn-socket=/s run c", "run", "c", NULL, "r run c"},
		{"r run --tarn-socket=/s c", "run", "c", NULL, NULL},
		{"r --cgroup-manager systemd --systemd-cgroup run c", "run", "c", NULL, NULL},
	};
	char *missing[] = {(char *)"r", (char *)"--tarn-runtime"};
	struct args a;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		print_message("# %s\n", lines[i].text);
		check_line(&lines[i]);
	}
	assert_int_equal(args_parse(2, missing, &a, NULL), -EINVAL);
}

/* --- documents --- */

static void test_spec(void **state)
{
	static const char text[] =
		"{\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
		"\"annotations\":{\"org.tarn.image\":\"x\",\"org.tarn.rw\":\"false\","
		"\"io.container.manager\":\"libpod\"},"
		"\"linux\":{\"mountLabel\":\"l\",\"namespaces\":[{\"type\":\"mount\"}]}}";
	struct scratch *s = *state;
	_cleanup_spec_ struct spec sp = SPEC_INIT;
	_cleanup_free_ char *root = NULL;
	char expected[128];

	put_file(s, "config.json", text);
	assert_int_equal(spec_open(s->path, &sp, NULL), 0);
	assert_string_equal(sp.image, "x");
	assert_false(sp.rw);
	assert_true(sp.readonly && sp.kept);
	assert_false(sp.prepared);
	assert_string_equal(sp.label, "l");
	assert_int_equal(spec_root_path(&sp, &root, NULL), 0);
	snprintf(expected, sizeof(expected), "%s/rootfs", s->path);
	assert_string_equal(root, expected);
	assert_int_equal(spec_check(&sp, NULL), -EINVAL);
}

#define IMAGE "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static int check_spec(struct scratch *s, const char *linux_part)
{
	_cleanup_spec_ struct spec sp = SPEC_INIT;
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"annotations\":{\"org.tarn.image\":\"" IMAGE "\"},\"linux\":%s}", linux_part);
	put_file(s, "config.json", text);
	assert_int_equal(spec_open(s->path, &sp, NULL), 0);
	assert_true(sp.rw);
	return spec_check(&sp, NULL);
}

static void test_spec_refused(void **state)
{
	struct scratch *s = *state;
	_cleanup_spec_ struct spec sp = SPEC_INIT;

	assert_int_equal(check_spec(s, "{\"namespaces\":[{\"type\":\"mount\"}]}"), 0);
	assert_int_equal(check_spec(s, "{\"namespaces\":[{\"type\":\"pid\"}]}"), -ENOTSUP);
	assert_int_equal(check_spec(s, "{\"namespaces\":[{\"type\":\"mount\",\"path\":\"/x\"}]}"),
			 -ENOTSUP);
	assert_int_equal(check_spec(s, "{\"namespaces\":[{\"type\":\"mount\"}],\"uidMappings\":[{"
				       "\"containerID\":0,\"hostID\":0,\"size\":9}]}"),
			 0);
	assert_int_equal(check_spec(s, "{\"namespaces\":[{\"type\":\"mount\"}],\"gidMappings\":[{"
				       "\"containerID\":0,\"hostID\":7,\"size\":9}]}"),
			 -ENOTSUP);
	/* A link or a fifo instead of the file, and no file at all. */
	assert_int_equal(unlinkat(s->fd, "config.json", 0), 0);
	assert_int_equal(spec_open(s->path, &sp, NULL), -ENOENT);
	spec_close(&sp);
	put_file(s, "other", "{}");
	assert_int_equal(symlinkat("other", s->fd, "config.json"), 0);
	assert_int_equal(spec_open(s->path, &sp, NULL), -ELOOP);
	spec_close(&sp);
	assert_int_equal(unlinkat(s->fd, "config.json", 0), 0);
	assert_int_equal(mkfifoat(s->fd, "config.json", 0600), 0);
	assert_int_equal(spec_open(s->path, &sp, NULL), -EINVAL);
}

static void test_edit(void **state)
{
	static const char before[] =
		"{\"root\":{\"readonly\":true,\"path\":\"old\",\"more\":1},"
		"\"process\":{\"rlimits\":[{\"hard\":18446744073709551615}],\"args\":[\"a/b\","
		"\"\\u00e4\"],\"x\":1.50},\"annotations\":{\"k\":\"v\",\"set\":\"old\"},\"z\":"
		"null}";
	static const struct edit_annotation set[] = {{"set", "new"}, {"added", "a/b"}};
	_cleanup_(json_freep) struct json *doc = NULL, *after = NULL;
	_cleanup_buf_ struct buf out = {0};
	const struct json *root;

	buf_init(&out, 1 << 16);
	assert_int_equal(json_parse(before, strlen(before), 1 << 16, "t", &doc, NULL), 0);
	assert_int_equal(edit_config(doc, "/new/root", set, ARRAY_LEN(set), &out, NULL), 0);
	assert_non_null(strstr(buf_cstr(&out), "18446744073709551615"));
	assert_non_null(strstr(buf_cstr(&out), "1.50"));
	assert_non_null(strstr(buf_cstr(&out), "\"/new/root\""));
	assert_non_null(strstr(buf_cstr(&out), "\"a/b\""));
	assert_int_equal(json_parse(out.data, out.len, 1 << 16, "t", &after, NULL), 0);
	root = json_get(after, "root");
	assert_true(json_bool(json_get(root, "readonly"), false));
	assert_int_equal(json_count(root), 3);
	assert_int_equal(json_count(after), json_count(doc));
	assert_string_equal(json_get_str(json_get(after, "annotations"), "k"), "v");
	assert_string_equal(json_get_str(json_get(after, "annotations"), "set"), "new");
	assert_int_equal(json_count(json_get(after, "annotations")), 3);
}

static int read_state(struct scratch *s, const char *text, struct state *ret)
{
	_cleanup_fd_ int fd = -1;

	put_file(s, "state", text);
	fd = openat(s->fd, "state", O_RDONLY | O_CLOEXEC);
	return state_read(fd, ret, NULL);
}

static void test_state(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{\"id\":\"a\"}",
		"{\"id\":\"a\",\"bundle\":\"relative\",\"pid\":1}",
		"{\"id\":\"../a\",\"bundle\":\"/b\",\"pid\":1}",
		"{\"id\":\"a\",\"bundle\":\"/b\",\"pid\":-1}",
		"{\"id\":\"a\",\"bundle\":\"/b\",\"pid\":4294967297}",
	};
	struct state st;

	assert_int_equal(read_state(*state, "{\"id\":\"a\",\"bundle\":\"/b\",\"pid\":7}", &st), 0);
	assert_int_equal(st.pid, 7);
	assert_false(st.stopped);
	state_free(&st);
	assert_int_equal(
		read_state(*state, "{\"id\":\"a\",\"bundle\":\"/b\",\"status\":\"stopped\"}", &st),
		0);
	assert_true(st.stopped);
	state_free(&st);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(read_state(*state, bad[i], &st) < 0);
		state_free(&st);
	}
}

static void test_mountinfo(void **state)
{
	static const char text[] =
		"20 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
		"30 20 0:5 /a\\040b /mnt/with\\040space\\134x ro,nosuid master:1 - tmpfs t rw\n"
		"42 30 0:7 / /mnt/with\\040space\\134x rw - overlay none rw,upperdir=/u\n"
		"41 42 0:8 / /mnt/with\\040space\\134x/sub rw - proc proc rw\n";
	struct scratch *s = *state;
	struct mounttab tab;
	const struct mountinfo *m;

	put_file(s, "mountinfo", text);
	assert_int_equal(mounttab_read(s->fd, &tab, NULL), 0);
	assert_int_equal(tab.n, 4);
	assert_true(tab.v[0].shared);
	assert_string_equal(tab.v[1].root, "/a b");
	assert_string_equal(tab.v[1].options, "ro,nosuid");
	m = mounttab_top(&tab, "/mnt/with space\\x");
	assert_int_equal(m->id, 42);
	assert_string_equal(m->fstype, "overlay");
	assert_string_equal(m->super, "rw,upperdir=/u");
	assert_null(mounttab_top(&tab, "/mnt"));
	mounttab_free(&tab);
	put_file(s, "mountinfo", "20 1 8:1 / /\n");
	assert_int_equal(mounttab_read(s->fd, &tab, NULL), -EBADMSG);
	put_file(s, "mountinfo", "x 1 8:1 / / rw - ext4 a b\n");
	assert_int_equal(mounttab_read(s->fd, &tab, NULL), -EBADMSG);
}

/* --- paths in an image --- */

static void check_walk(struct scratch *s, const char *path, enum walk_want want, const char *found)
{
	_cleanup_fd_ int fd = walk_in_root(s->fd, path, want, NULL);
	struct stat a, b;

	print_message("# %s\n", path);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &a), 0);
	assert_int_equal(fstatat(s->fd, found, &b, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(a.st_ino, b.st_ino);
}

static void test_walk(void **state)
{
	struct scratch *s = *state;

	assert_int_equal(mkdirat(s->fd, "etc", 0755), 0);
	assert_int_equal(mkdirat(s->fd, "dir", 0755), 0);
	put_file(s, "file", "x");
	assert_int_equal(symlinkat("../run/new/stub", s->fd, "etc/resolv"), 0);
	assert_int_equal(symlinkat("/etc/passwd", s->fd, "abs"), 0);
	assert_int_equal(symlinkat("../../../../up", s->fd, "climb"), 0);
	assert_int_equal(symlinkat("loop", s->fd, "loop"), 0);
	assert_int_equal(symlinkat("dir", s->fd, "link"), 0);
	check_walk(s, "/etc/resolv", WALK_FILE, "run/new/stub");
	check_walk(s, "abs", WALK_FILE, "etc/passwd");
	check_walk(s, "climb", WALK_DIR, "up");
	check_walk(s, "../../dir/./../dir", WALK_DIR, "dir");
	check_walk(s, "link/a//b/", WALK_DIR, "dir/a/b");
	check_walk(s, "dir", WALK_SYSTEM, "dir");
	check_walk(s, "file", WALK_FILE, "file");
	assert_int_equal(walk_in_root(s->fd, "link", WALK_SYSTEM, NULL), -ELOOP);
	assert_int_equal(walk_in_root(s->fd, "loop", WALK_DIR, NULL), -ELOOP);
	assert_int_equal(walk_in_root(s->fd, "file", WALK_DIR, NULL), -ENOTDIR);
	assert_int_equal(walk_in_root(s->fd, "file/x", WALK_FILE, NULL), -ENOTDIR);
	assert_int_equal(walk_in_root(s->fd, "dir", WALK_FILE, NULL), -EISDIR);
}

static void test_walk_procfs(void **state)
{
	_cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(walk_in_root(root, "proc/self/root", WALK_DIR, NULL), -EXDEV);
	assert_int_equal(walk_in_root(root, "proc", WALK_DIR, NULL), -EXDEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_args),
		cmocka_unit_test_setup_teardown(test_spec, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spec_refused, setup, teardown),
		cmocka_unit_test(test_edit),
		cmocka_unit_test_setup_teardown(test_state, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mountinfo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_walk, setup, teardown),
		cmocka_unit_test(test_walk_procfs),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
