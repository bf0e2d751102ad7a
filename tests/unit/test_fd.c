/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "tests/unit/scratch.h"

/* Each test has a directory of its own; its descriptor is the state. */
struct place {
	char path[64];
	int fd; /* owned */
};

static int make_place(void **state)
{
	struct place *pl = calloc(1, sizeof(*pl));

	assert_non_null(pl);
	snprintf(pl->path, sizeof(pl->path), "/tmp/test_fd.XXXXXX");
	assert_non_null(mkdtemp(pl->path));
	pl->fd = open(pl->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(pl->fd >= 0);
	*state = pl;
	return 0;
}

static int drop_place(void **state)
{
	struct place *pl = *state;
	int r = scratch_remove(pl->path);

	close(pl->fd);
	free(pl);
	return r;
}

static int at(void **state)
{
	return ((struct place *)*state)->fd;
}

static void put_file(int dirfd, const char *name, const char *content)
{
	_cleanup_fd_ int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, content, strlen(content)), 0);
}

/* The file must hold exactly @want. Takes @fd, which may be a failed open. */
static void assert_content(int fd, const char *want)
{
	_cleanup_buf_ struct buf b;

	assert_true(fd >= 0);
	buf_init(&b, 1 << 20);
	assert_int_equal(fd_read_all(fd, &b), 0);
	assert_string_equal(buf_cstr(&b), want);
	close(fd);
}

static size_t count_entries(int dirfd)
{
	char cmd[128];
	size_t n = 0;
	FILE *p;

	snprintf(cmd, sizeof(cmd), "ls -A /proc/%d/fd/%d/ | wc -l", (int)getpid(), dirfd);
	p = popen(cmd, "re");
	assert_non_null(p);
	for (int c; (c = getc(p)) != EOF && c >= '0' && c <= '9';)
		n = 10 * n + (size_t)(c - '0');
	pclose(p);
	return n;
}

static void whole_reads_and_writes(void **state)
{
	_cleanup_fd_ int fd = openat(at(state), "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char out[8] = "";

	assert_int_equal(fd_pwrite_full(fd, "world", 5, 5), 0);
	assert_int_equal(fd_pwrite_full(fd, "hello", 5, 0), 0);
	assert_int_equal(fd_pread_full(fd, out, 4, 3), 0);
	assert_memory_equal(out, "lowo", 4);
	assert_int_equal(fd_pread_full(fd, out, 5, 6), -ENODATA);
	assert_int_equal(fd_pread_full(fd, out, 0, 100), 0);
	assert_int_equal(fd_pread_full(fd, out, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(fd_pread_full(-1, out, 1, 0), -EBADF);
	assert_int_equal(fd_pwrite_full(-1, out, 1, 0), -EBADF);
	assert_int_equal(fd_write_full(-1, out, 1), -EBADF);
}

static void read_all_stops_at_the_maximum(void **state)
{
	for (size_t max = 3; max < 8; max++) {
		_cleanup_fd_ int fd = -1;
		_cleanup_buf_ struct buf b;

		put_file(at(state), "f", "12345");
		fd = openat(at(state), "f", O_RDONLY | O_CLOEXEC);
		buf_init(&b, max);
		assert_int_equal(fd_read_all(fd, &b), max < 5 ? -EFBIG : 0);
		assert_int_equal(b.len, max < 5 ? max : 5);
	}
}

static void read_all_takes_a_pipe_in_pieces(void **state)
{
	_cleanup_buf_ struct buf b;
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	if (fork() == 0) {
		for (int i = 0; i < 100000; i++)
			fd_write_full(p[1], "0123456789", 10);
		_exit(0);
	}
	close(p[1]);
	buf_init(&b, 1000000);
	assert_int_equal(fd_read_all(p[0], &b), 0);
	close(p[0]);
	assert_int_equal(b.len, 1000000);
	assert_memory_equal(b.data + 999990, "0123456789", 10);
}

/* root/{file, dir/file}, links in it that stay and that lead out, and a secret beside it. */
static int make_root(int dirfd)
{
	int root;

	put_file(dirfd, "secret", "out");
	assert_int_equal(fd_mkdir(dirfd, "root", 0755), 0);
	root = openat(dirfd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(root, "file", "in");
	put_file(root, "secret", "mine");
	assert_int_equal(fd_mkdir(root, "dir", 0755), 0);
	put_file(root, "dir/file", "deep");
	assert_int_equal(symlinkat("file", root, "link"), 0);
	assert_int_equal(symlinkat("dir", root, "dirlink"), 0);
	assert_int_equal(symlinkat("/file", root, "abs"), 0);
	assert_int_equal(symlinkat("../secret", root, "up"), 0);
	assert_int_equal(symlinkat("../../../../secret", root, "dir/far"), 0);
	assert_int_equal(symlinkat("/proc/self/root/etc/passwd", root, "out"), 0);
	assert_int_equal(symlinkat("loop", root, "loop"), 0);
	return root;
}

static void beneath_follows_no_link(void **state)
{
	_cleanup_fd_ int root = make_root(at(state));

	assert_content(fd_open_beneath(root, "file", O_RDONLY, 0), "in");
	assert_content(fd_open_beneath(root, "dir/file", O_RDONLY, 0), "deep");
	assert_content(fd_open_beneath(root, "dir/../file", O_RDONLY, 0), "in");
	assert_int_equal(fd_open_beneath(root, "link", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fd_open_beneath(root, "dirlink/file", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fd_open_beneath(root, "up", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fd_open_beneath(root, "../secret", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fd_open_beneath(root, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fd_open_beneath(root, "dir/../../secret", O_RDONLY, 0), -EXDEV);
	assert_int_equal(fd_open_beneath(root, "none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(fd_open_beneath(root, "", O_RDONLY, 0), -ENOENT);
}

static void beneath_creates(void **state)
{
	struct stat st;
	mode_t old = umask(0);
	int fd = fd_open_beneath(at(state), "new", O_WRONLY | O_CREAT | O_EXCL, 0640);

	umask(old);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
	assert_int_equal(fd_open_beneath(at(state), "new", O_WRONLY | O_CREAT | O_EXCL, 0640),
			 -EEXIST);
	/* A mode without O_CREAT is ignored, as open(2) does. */
	fd = fd_open_beneath(at(state), "new", O_RDONLY, 0640);
	assert_true(fd >= 0);
	close(fd);
}

static void in_root_stays_in_root(void **state)
{
	_cleanup_fd_ int root = make_root(at(state));

	assert_content(fd_open_in_root(root, "/file", O_RDONLY, 0), "in");
	assert_content(fd_open_in_root(root, "link", O_RDONLY, 0), "in");
	assert_content(fd_open_in_root(root, "dirlink/file", O_RDONLY, 0), "deep");
	assert_content(fd_open_in_root(root, "abs", O_RDONLY, 0), "in");
	/* Up from the root is the root, as in a chroot. */
	assert_content(fd_open_in_root(root, "up", O_RDONLY, 0), "mine");
	assert_content(fd_open_in_root(root, "dir/far", O_RDONLY, 0), "mine");
	assert_content(fd_open_in_root(root, "../../secret", O_RDONLY, 0), "mine");
	assert_int_equal(fd_open_in_root(root, "out", O_RDONLY, 0), -ENOENT);
	assert_int_equal(fd_open_in_root(root, "loop", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fd_open_in_root(root, "link", O_RDONLY | O_NOFOLLOW, 0), -ELOOP);
}

static void magic_links_are_not_followed(void **state)
{
	_cleanup_fd_ int proc = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(proc >= 0);
	assert_int_equal(fd_open_in_root(proc, "exe", O_RDONLY, 0), -ELOOP);
	assert_int_equal(fd_open_in_root(proc, "root/etc", O_RDONLY, 0), -ELOOP);
}

static void publish_replaces(void **state)
{
	struct err e = ERR_INIT;
	struct stat st;

	assert_int_equal(fd_publish(at(state), "f", "one", 3, 0644, &e), 0);
	assert_content(openat(at(state), "f", O_RDONLY | O_CLOEXEC), "one");
	assert_int_equal(fd_publish(at(state), "f", "", 0, 0400, &e), 0);
	assert_content(openat(at(state), "f", O_RDONLY | O_CLOEXEC), "");
	assert_int_equal(fstatat(at(state), "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(count_entries(at(state)), 1);
	assert_int_equal(e.code, 0);
}

static void publish_has_the_mode_it_was_told(void **state)
{
	struct stat st;
	mode_t old = umask(077);

	assert_int_equal(fd_publish(at(state), "f", "x", 1, 0664, NULL), 0);
	umask(old);
	assert_int_equal(fstatat(at(state), "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0664);
}

static void a_reader_keeps_the_old_content(void **state)
{
	int fd;

	assert_int_equal(fd_publish(at(state), "f", "old", 3, 0600, NULL), 0);
	fd = openat(at(state), "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fd_publish(at(state), "f", "new", 3, 0600, NULL), 0);
	assert_content(fd, "old");
}

static void publish_replaces_a_link_and_not_its_target(void **state)
{
	put_file(at(state), "target", "keep");
	assert_int_equal(symlinkat("target", at(state), "f"), 0);
	assert_int_equal(fd_publish(at(state), "f", "new", 3, 0600, NULL), 0);
	assert_content(openat(at(state), "target", O_RDONLY | O_CLOEXEC), "keep");
	assert_content(openat(at(state), "f", O_RDONLY | O_NOFOLLOW | O_CLOEXEC), "new");
}

static void a_failed_publish_leaves_nothing(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "/a"};
	struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(fd_publish(at(state), bad[i], "x", 1, 0600, &e), -EINVAL);
	assert_int_equal(fd_mkdir(at(state), "d", 0700), 0);
	assert_int_equal(fd_publish(at(state), "d", "x", 1, 0600, &e), -EISDIR);
	assert_non_null(strstr(e.text, "'d'"));
	assert_int_equal(count_entries(at(state)), 1);
	assert_int_equal(fd_publish(-1, "f", "x", 1, 0600, &e), -EBADF);
}

static void the_longest_name_can_be_published(void **state)
{
	char name[256];

	memset(name, 'n', 255);
	name[255] = '\0';
	assert_int_equal(fd_publish(at(state), name, "x", 1, 0600, NULL), 0);
	assert_content(openat(at(state), name, O_RDONLY | O_CLOEXEC), "x");
}

static void publish_works_without_a_readable_descriptor(void **state)
{
	_cleanup_fd_ int fd = openat(at(state), ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(fd_publish(fd, "f", "x", 1, 0600, NULL), 0);
}

static void publish_by_rename(void **state)
{
	struct err e = ERR_INIT;

	put_file(at(state), "tmp", "x");
	assert_int_equal(fd_publish_rename(at(state), "tmp", "f", &e), 0);
	assert_content(openat(at(state), "f", O_RDONLY | O_CLOEXEC), "x");
	assert_int_equal(fd_publish_rename(at(state), "tmp", "f", &e), -ENOENT);
	assert_int_equal(fd_publish_rename(at(state), "f", "a/b", &e), -EINVAL);
}

static void mkdir_takes_an_existing_directory(void **state)
{
	assert_int_equal(fd_mkdir(at(state), "d", 0700), 0);
	assert_int_equal(fd_mkdir(at(state), "d", 0700), 0);
	put_file(at(state), "f", "");
	assert_int_equal(fd_mkdir(at(state), "f", 0700), -ENOTDIR);
	assert_int_equal(symlinkat("d", at(state), "l"), 0);
	assert_int_equal(fd_mkdir(at(state), "l", 0700), -ENOTDIR);
	assert_int_equal(fd_mkdir(at(state), "none/d", 0700), -ENOENT);
}

static void remove_takes_files_links_and_trees(void **state)
{
	_cleanup_fd_ int root = make_root(at(state));

	assert_int_equal(symlinkat("root", at(state), "rootlink"), 0);
	assert_int_equal(fd_remove_tree(at(state), "rootlink"), 0);
	assert_content(openat(root, "file", O_RDONLY | O_CLOEXEC), "in");
	assert_int_equal(symlinkat("..", root, "dir/parent"), 0);
	assert_int_equal(fd_remove_tree(at(state), "root"), 0);
	assert_content(openat(at(state), "secret", O_RDONLY | O_CLOEXEC), "out");
	assert_int_equal(fd_remove_tree(at(state), "secret"), 0);
	assert_int_equal(count_entries(at(state)), 0);
	assert_int_equal(fd_remove_tree(at(state), "root"), -ENOENT);
}

/* Deeper than a path can name, a stack should recurse or descriptors would last. */
static void remove_takes_a_very_deep_tree(void **state)
{
	int fd = dup(at(state));

	for (int i = 0; i < 5000; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "directory", 0700), 0);
		next = openat(fd, "directory", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		put_file(next, "file", "");
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(fd_remove_tree(at(state), "directory"), 0);
	assert_int_equal(count_entries(at(state)), 0);
}

static void remove_takes_a_wide_tree_and_odd_names(void **state)
{
	_cleanup_fd_ int top = -1;
	char name[32];

	assert_int_equal(fd_mkdir(at(state), "t", 0700), 0);
	top = openat(at(state), "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 300; i++) {
		/* The names that the removal itself would pick: it must not trip over them. */
		snprintf(name, sizeof(name), "%016d", i);
		assert_int_equal(fd_mkdir(top, name, 0700), 0);
		snprintf(name, sizeof(name), "%016d/x", i);
		assert_int_equal(fd_mkdir(top, name, 0700), 0);
		snprintf(name, sizeof(name), "%016d/x/\n", i);
		put_file(top, name, "");
	}
	assert_int_equal(fd_remove_tree(at(state), "t"), 0);
	assert_int_equal(count_entries(at(state)), 0);
}

/* Counts down; 7 at the end of it. */
static int count_down(void *ctx, int dirfd, const char *name)
{
	assert_int_equal(faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(strspn(name, "."), 0);
	return --*(int *)ctx == 0 ? 7 : 0;
}

static void each_entry_once(void **state)
{
	int n = 4;

	for (int i = 0; i < 3; i++)
		assert_int_equal(fd_mkdir(at(state), (char[]){(char)('a' + i), '\0'}, 0700), 0);
	assert_int_equal(fd_each_entry(openat(at(state), ".", O_RDONLY), count_down, &n), 0);
	assert_int_equal(n, 1);
	n = 2;
	assert_int_equal(fd_each_entry(openat(at(state), ".", O_RDONLY), count_down, &n), 7);
	assert_int_equal(n, 0);
}

static void each_entry_fails(void **state)
{
	int n = 9, fd = openat(at(state), "f", O_RDWR | O_CREAT, 0600);

	assert_int_equal(fd_each_entry(-ENOENT, count_down, &n), -ENOENT);
	assert_int_equal(fd_each_entry(fd, count_down, &n), -ENOTDIR);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken all the same */
	assert_int_equal(n, 9);
}

static int list_with_bad_disk(int dir)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int n = 9;

	if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EIO), SCMP_SYS(getdents64), 0) < 0 ||
	    seccomp_load(ctx) < 0)
		return 2;
	return fd_each_entry(dir, count_down, &n) == -EIO ? 0 : 1;
}

/* Half a listing must not be taken for all there is: what is not in it may be removed. */
static void each_entry_of_a_bad_disk(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(list_with_bad_disk(openat(at(state), ".", O_RDONLY)));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void resident_counts_what_is_there(void **state)
{
	static const char block[65536] = "x";
	_cleanup_fd_ int fd = openat(at(state), "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, 1 << 30), 0);
	assert_true(fd_resident(fd) < 65536);
	assert_int_equal(fd_pwrite_full(fd, block, sizeof(block), 1 << 20), 0);
	assert_int_equal(fsync(fd), 0);
	assert_true(fd_resident(fd) >= 65536);
	assert_true(fd_resident(fd) < 1 << 20);
	assert_int_equal(fd_resident(-1), -EBADF);
}

static void cloexec(void **state)
{
	_cleanup_fd_ int fd = dup(0);

	assert_int_equal(fd_set_cloexec(fd, 1), 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fd_set_cloexec(fd, 0), 0);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	assert_int_equal(fd_set_cloexec(-1, 1), -EBADF);
}

#define IN_PLACE(fn) cmocka_unit_test_setup_teardown(fn, make_place, drop_place)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(whole_reads_and_writes),
		IN_PLACE(read_all_stops_at_the_maximum),
		cmocka_unit_test(read_all_takes_a_pipe_in_pieces),
		IN_PLACE(beneath_follows_no_link),
		IN_PLACE(beneath_creates),
		IN_PLACE(in_root_stays_in_root),
		cmocka_unit_test(magic_links_are_not_followed),
		IN_PLACE(publish_replaces),
		IN_PLACE(publish_has_the_mode_it_was_told),
		IN_PLACE(a_reader_keeps_the_old_content),
		IN_PLACE(publish_replaces_a_link_and_not_its_target),
		IN_PLACE(a_failed_publish_leaves_nothing),
		IN_PLACE(the_longest_name_can_be_published),
		IN_PLACE(publish_works_without_a_readable_descriptor),
		IN_PLACE(publish_by_rename),
		IN_PLACE(mkdir_takes_an_existing_directory),
		IN_PLACE(remove_takes_files_links_and_trees),
		IN_PLACE(remove_takes_a_very_deep_tree),
		IN_PLACE(remove_takes_a_wide_tree_and_odd_names),
		IN_PLACE(each_entry_once),
		IN_PLACE(each_entry_fails),
		IN_PLACE(each_entry_of_a_bad_disk),
		IN_PLACE(resident_counts_what_is_there),
		cmocka_unit_test(cloexec),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("fd", tests, NULL, NULL);
}
