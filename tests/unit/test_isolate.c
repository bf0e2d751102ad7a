/* SPDX-License-Identifier: Apache-2.0 */
/* Children without rights (plugin/isolate.c): what comes back from them, and what ends them. */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/isolate.h"

#define ENDED "the process that parses image data ended unexpectedly"

/* Memory that a child tells us through what it got as far as. */
static volatile int *seen;

static int call(int (*fn)(void *, struct buf *, struct err *), void *ctx, struct buf *out,
		size_t max, struct err *e)
{
	*e = (struct err)ERR_INIT;
	*seen = 0;
	buf_init(out, max);
	return isolate_call(fn, ctx, out, e);
}

static int put_text(void *ctx, struct buf *out, struct err *e)
{
	const char *text = ctx;

	return buf_put(out, text, strlen(text));
}

static void result_comes_back(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(put_text, (void *)"hello", &out, 100, &e), 0);
	assert_int_equal(out.len, 5);
	assert_memory_equal(out.data, "hello", 5);
	/* Behind what is there already. */
	assert_int_equal(isolate_call(put_text, (void *)", world", &out, &e), 0);
	assert_int_equal(out.len, 12);
	assert_memory_equal(out.data, "hello, world", 12);
	buf_free(&out);
	assert_int_equal(call(put_text, (void *)"", &out, 100, &e), 0);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

/* More than a pipe holds, from memory that the child has to ask for. */
#define BIG (8u << 20)

static int put_big(void *ctx, struct buf *out, struct err *e)
{
	for (size_t i = 0; i < BIG; i += 4096) {
		char page[4096];

		memset(page, (int)(i >> 12) & 0xff, sizeof(page));
		if (buf_put(out, page, sizeof(page)) < 0)
			return out->failed;
	}
	return 0;
}

static void a_big_result(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(put_big, NULL, &out, BIG, &e), 0);
	assert_int_equal(out.len, BIG);
	assert_int_equal(out.data[BIG - 1], ((BIG >> 12) - 1) & 0xff);
	buf_free(&out);
	assert_int_equal(call(put_big, NULL, &out, BIG - 1, &e), -EFBIG);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

static int refuse(void *ctx, struct buf *out, struct err *e)
{
	buf_put(out, "half", 4);
	return err_set(e, -EBADMSG, "line 3: %s", (const char *)ctx);
}

static void error_text_comes_back(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(refuse, (void *)"no such key", &out, 100, &e), -EBADMSG);
	assert_string_equal(e.text, "line 3: no such key");
	assert_int_equal(e.code, -EBADMSG);
	assert_int_equal(out.len, 0);
	assert_int_equal(isolate_call(refuse, (void *)"x", &out, NULL), -EBADMSG);
	buf_free(&out);
}

/* --- what ends a child; each would say so if it got past --- */

static int past(void)
{
	*seen = 1;
	return 0;
}

static int try_open(void *ctx, struct buf *out, struct err *e)
{
	_cleanup_fd_ int fd = open("/etc/passwd", O_RDONLY);

	return fd >= -1 ? past() : 0;
}

static int try_exec(void *ctx, struct buf *out, struct err *e)
{
	char *const argv[] = {(char *)"true", NULL};

	return execv("/bin/true", argv) >= -1 ? past() : 0;
}

static int try_socket(void *ctx, struct buf *out, struct err *e)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd >= -1 ? past() : 0;
}

static int try_kill(void *ctx, struct buf *out, struct err *e)
{
	return kill(getppid(), 0) >= -1 ? past() : 0;
}

static int try_fork(void *ctx, struct buf *out, struct err *e)
{
	return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) >= -1 ? past() : 0;
}

static int try_stat(void *ctx, struct buf *out, struct err *e)
{
	struct stat st;

	return stat("/", &st) >= -1 ? past() : 0;
}

static int try_crash(void *ctx, struct buf *out, struct err *e)
{
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
	return past();
}

static int try_exit(void *ctx, struct buf *out, struct err *e)
{
	_exit(0);
}

static void forbidden_calls_end_it(void **state)
{
	int (*const tries[])(void *, struct buf *, struct err *) = {
		try_open, try_exec, try_socket, try_kill, try_fork, try_stat, try_crash, try_exit,
	};

	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		struct buf out;
		struct err e;

		assert_int_equal(call(tries[i], NULL, &out, 100, &e), -EIO);
		assert_string_equal(e.text, ENDED);
		assert_int_equal(*seen, 0);
		assert_int_equal(out.len, 0);
		buf_free(&out);
	}
	/* None is left behind. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static int use_descriptor(void *ctx, struct buf *out, struct err *e)
{
	*seen = 1;
	if (write(*(int *)ctx, "x", 1) == 1)
		*seen = 2;
	return 0;
}

/* What the caller has open, its connection to tarnd above all, is not for the child. */
static void no_descriptor_is_inherited(void **state)
{
	struct buf out;
	struct err e;
	int p[2];

	assert_int_equal(pipe2(p, O_NONBLOCK), 0);
	assert_int_equal(call(use_descriptor, &p[1], &out, 100, &e), 0);
	assert_int_equal(*seen, 1);
	buf_free(&out);
	close(p[0]);
	close(p[1]);
}

/* It dies after it announced more than it could send. */
static int lie(void *ctx, struct buf *out, struct err *e)
{
	const struct {
		int32_t code;
		uint32_t len;
		char text[ERR_TEXT_MAX];
		char some[10];
	} head = {.len = 1000, .some = "truncated"};

	for (int fd = 3; fd < 64; fd++)
		if (write(fd, &head, sizeof(head)) > 0)
			_exit(0);
	return -EBADF;
}

static void half_a_result_is_none(void **state)
{
	struct buf out;
	struct err e;

	assert_int_equal(call(lie, NULL, &out, 2000, &e), -EIO);
	assert_string_equal(e.text, ENDED);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

/* --- for good: engine and keeper --- */

/* Runs @fn in a child; its exit status. */
static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void cap_freep(cap_t *caps)
{
	cap_free(*caps);
}

static int has_cap(cap_value_t cap, cap_flag_t set)
{
	_cleanup_(cap_freep) cap_t caps = cap_get_proc();
	cap_flag_value_t on = CAP_SET;

	cap_get_flag(caps, cap, set, &on);
	return on == CAP_SET;
}

static int be_engine(void)
{
	struct err e = ERR_INIT;

	if (isolate_engine(1999000001, 1999000001, &e) < 0)
		return 2;
	for (cap_value_t c = 0; cap_get_bound(c) >= 0; c++)
		if (has_cap(c, CAP_PERMITTED) || has_cap(c, CAP_EFFECTIVE) ||
		    has_cap(c, CAP_INHERITABLE) || cap_get_bound(c))
			return 3;
	if (getuid() != 1999000001 || geteuid() != 1999000001 || getgid() != 1999000001 ||
	    getgroups(0, NULL) != 0 || setuid(0) == 0)
		return 4;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 5;
}

static int be_keeper(void)
{
	static const cap_value_t gone[] = {CAP_NET_ADMIN, CAP_SYS_MODULE, CAP_SYS_PTRACE,
					   CAP_SYS_RAWIO, CAP_MKNOD};
	struct err e = ERR_INIT;
	int had = has_cap(CAP_SYS_ADMIN, CAP_PERMITTED);

	if (isolate_keeper(&e) < 0)
		return 2;
	for (size_t i = 0; i < ARRAY_LEN(gone); i++)
		if (has_cap(gone[i], CAP_PERMITTED) || cap_get_bound(gone[i]))
			return 3;
	return has_cap(CAP_SYS_ADMIN, CAP_EFFECTIVE) == had && getuid() == 0 ? 0 : 4;
}

/* A directory to be locked in: etc/hosts, and beside etc what everybody may read and write. */
static char world[32];

static int make_file(int dir, const char *name)
{
	_cleanup_fd_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	return fd >= 0 && fchmod(fd, 0666) == 0 && write(fd, "text", 4) == 4 ? 0 : -1;
}

static void make_world(void)
{
	_cleanup_fd_ int dir = -1;

	snprintf(world, sizeof(world), "/tmp/isolate.XXXXXX");
	assert_non_null(mkdtemp(world));
	dir = open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(chmod(world, 0777) | mkdirat(dir, "etc", 0755), 0);
	assert_int_equal(fchmodat(dir, "etc", 0777, 0), 0);
	assert_int_equal(make_file(dir, "etc/hosts") | make_file(dir, "beside"), 0);
}

static void remove_world(void)
{
	_cleanup_fd_ int dir = open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	unlinkat(dir, "etc/hosts", 0);
	unlinkat(dir, "beside", 0);
	unlinkat(dir, "etc", AT_REMOVEDIR);
	assert_int_equal(rmdir(world), 0);
}

static int lock_in(void)
{
	struct err e = ERR_INIT;
	int root = open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return root < 0 ? root : isolate_fetcher(root, 1999000002, 1999000002, &e);
}

static int be_fetcher(void)
{
	_cleanup_fd_ int fd = -1;
	_cleanup_fd_ int hosts = -1;
	char text[8];

	if (lock_in() < 0)
		return 3;
	/* The call is permitted, and there is no such file in here. */
	fd = open("/etc/passwd", O_RDONLY);
	if (fd >= 0)
		return 4;
	hosts = open("/etc/hosts", O_RDONLY);
	if (hosts < 0 || read(hosts, text, sizeof(text)) != 4)
		return 6;
	*seen = 1;
	mkdir("/x", 0700);
	return 5;
}

static bool opens(const char *path, int flags)
{
	_cleanup_fd_ int fd = open(path, flags, 0600);

	return fd >= 0;
}

/* What chroot and the modes of the files would permit, and landlock does not. */
static int reach_beside(void)
{
	static const struct {
		const char *path;
		int flags;
	} tries[] = {
		{"/beside", O_RDONLY},    {"/beside", O_WRONLY},
		{"/etc/hosts", O_WRONLY}, {"/etc/new", O_WRONLY | O_CREAT},
		{"/etc", O_RDONLY},       {"/etc/../beside", O_RDONLY},
	};

	if (lock_in() < 0)
		return 3;
	for (size_t i = 0; i < ARRAY_LEN(tries); i++)
		if (opens(tries[i].path, tries[i].flags) || errno != EACCES)
			return 10 + (int)i;
	return 0;
}

/* A kernel that has no landlock, whatever this one has. */
static int do_without(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	if (!ctx ||
	    seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EOPNOTSUPP),
			     seccomp_syscall_resolve_name("landlock_create_ruleset"), 0) < 0 ||
	    seccomp_load(ctx) < 0)
		return 2;
	if (isolate_landlock() != -EOPNOTSUPP)
		return 4;
	if (lock_in() < 0)
		return 3;
	return opens("/etc/hosts", O_RDONLY) && opens("/beside", O_RDONLY) ? 0 : 5;
}

static void rights_are_gone(void **state)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(be_engine), 0);
	assert_int_equal(in_child(be_keeper), 0);
	make_world();
	*seen = 0;
	assert_int_equal(in_child(be_fetcher), -SIGSYS);
	assert_int_equal(*seen, 1);
	remove_world();
}

static void landlock_goes_beyond_chroot(void **state)
{
	if (geteuid() != 0 || isolate_landlock() < 0)
		skip();
	make_world();
	assert_int_equal(in_child(reach_beside), 0);
	remove_world();
}

static void without_landlock_a_fetcher_works(void **state)
{
	if (geteuid() != 0)
		skip();
	make_world();
	assert_int_equal(in_child(do_without), 0);
	remove_world();
}

static int lack_lease(void)
{
	static const cap_value_t lease = CAP_LEASE;
	_cleanup_(cap_freep) cap_t caps = cap_get_proc();
	struct err e = ERR_INIT;
	char lacks[256];

	isolate_keeper_lacks(lacks, sizeof(lacks));
	if (lacks[0])
		return 2;
	if (cap_set_flag(caps, CAP_EFFECTIVE, 1, &lease, CAP_CLEAR) < 0 ||
	    cap_set_flag(caps, CAP_PERMITTED, 1, &lease, CAP_CLEAR) < 0 || cap_set_proc(caps) < 0)
		return 3;
	isolate_keeper_lacks(lacks, sizeof(lacks));
	if (strcmp(lacks, "cap_lease") != 0)
		return 4;
	return isolate_keeper(&e) == -EPERM && strstr(e.text, "missing: cap_lease;") ? 0 : 5;
}

static void a_keeper_wants_all_its_capabilities(void **state)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(lack_lease), 0);
}

int main(void)
{
	int memory = memfd_create("seen", MFD_CLOEXEC);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(result_comes_back),
		cmocka_unit_test(a_big_result),
		cmocka_unit_test(error_text_comes_back),
		cmocka_unit_test(forbidden_calls_end_it),
		cmocka_unit_test(no_descriptor_is_inherited),
		cmocka_unit_test(half_a_result_is_none),
		cmocka_unit_test(rights_are_gone),
		cmocka_unit_test(landlock_goes_beyond_chroot),
		cmocka_unit_test(without_landlock_a_fetcher_works),
		cmocka_unit_test(a_keeper_wants_all_its_capabilities),
	};

	if (memory < 0 || ftruncate(memory, 4096) < 0)
		return 1;
	seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (seen == MAP_FAILED)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("isolate", tests, NULL, NULL);
}
