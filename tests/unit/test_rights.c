/* SPDX-License-Identifier: Apache-2.0 */
/* What keeper, anchor, engine and fetcher may do (plugin/isolate.c, filter.c), and what they try.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
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
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the headers above before it. */
#include <cmocka.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/filter.h"
#include "plugin/isolate.h"
#include "plugin/spawn.h"
#include "tests/hostile/attempts.h"

/* Memory that a child tells us through what it got as far as. */
static volatile int *seen;

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
					   CAP_SYS_RAWIO, CAP_MKNOD,      CAP_SETPCAP};
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

static int make_file(int dir, const char *name, const char *text)
{
	_cleanup_fd_ int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	const ssize_t len = (ssize_t)strlen(text);

	return fd >= 0 && fchmod(fd, 0666) == 0 && write(fd, text, (size_t)len) == len ? 0 : -1;
}

/* A name of several addresses: the resolver asks the kernel which of them is best. */
#define HOSTS "127.0.0.1 lake\n127.0.0.2 lake\n::1 lake\n"

static void make_world(void)
{
	char name[] = "/tmp/isolate.XXXXXX";
	_cleanup_fd_ int dir = -1;

	assert_non_null(mkdtemp(name));
	memcpy(world, name, sizeof(name));
	dir = open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(chmod(world, 0777) | mkdirat(dir, "etc", 0755), 0);
	assert_int_equal(fchmodat(dir, "etc", 0777, 0), 0);
	assert_int_equal(make_file(dir, "etc/hosts", HOSTS) | make_file(dir, "beside", "text"), 0);
	assert_int_equal(make_file(dir, "etc/resolv.conf", "nameserver 127.0.0.1\n"), 0);
	assert_int_equal(make_file(dir, "etc/host.conf", "multi on\n"), 0);
}

/* Also after a test that failed in the middle; world[0] says whether there is one. */
static int remove_world(void **state)
{
	_cleanup_fd_ int dir = -1;

	if (!world[0])
		return 0;
	dir = open(world, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unlinkat(dir, "etc/hosts", 0);
	unlinkat(dir, "etc/resolv.conf", 0);
	unlinkat(dir, "etc/host.conf", 0);
	unlinkat(dir, "beside", 0);
	unlinkat(dir, "etc", AT_REMOVEDIR);
	if (rmdir(world) < 0)
		return -1;
	world[0] = '\0';
	return 0;
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
	if (hosts < 0 || read(hosts, text, sizeof(text)) != sizeof(text))
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
		{"/beside", O_RDONLY},
		{"/etc", O_RDONLY},
		{"/etc/../beside", O_RDONLY},
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

/* --- what engine, anchor and fetcher cannot do: each attempt in a process of its own --- */

#define REFUSED 10
#define THROUGH 11
#define BROKEN  12

static const struct attempt *attempt_now;

static int make_it(int sealed)
{
	if (sealed < 0)
		return BROKEN;
	return attempt_now->run() < 0 ? REFUSED : THROUGH;
}

static int as_engine(void)
{
	struct err e = ERR_INIT;
	int r = isolate_engine(1999000001, 1999000001, &e);

	r = r < 0 ? r : filter_anchor(&e);
	return make_it(r < 0 ? r : filter_engine(&e));
}

static int as_fetcher(void)
{
	return make_it(lock_in());
}

static void none_gets_through(int (*as)(void), bool fetcher)
{
	for (size_t i = 0; i < nattempts; i++) {
		int r;

		attempt_now = &attempts[i];
		r = in_child(as);
		if (fetcher && attempts[i].fetcher_may)
			assert_int_equal(r, THROUGH);
		else if (r != -SIGSYS && !(attempts[i].may_fail && r == REFUSED))
			fail_msg("%s: %d", attempts[i].name, r);
	}
}

static void an_engine_is_locked_in(void **state)
{
	if (geteuid() != 0)
		skip();
	none_gets_through(as_engine, false);
}

static void a_fetcher_is_locked_in(void **state)
{
	if (geteuid() != 0)
		skip();
	make_world();
	none_gets_through(as_fetcher, true);
}

static int resolve(void)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct addrinfo *found = NULL;
	int n = 0;

	if (lock_in() < 0)
		return 2;
	if (getaddrinfo("lake", "443", &hints, &found) != 0)
		return 3;
	for (const struct addrinfo *a = found; a; a = a->ai_next)
		n++;
	freeaddrinfo(found);
	/* By DNS, of which there is none here: an answer all the same. */
	if (getaddrinfo("no-such-lake.invalid", "443", &hints, &found) == 0)
		return 4;
	return n >= 2 ? 0 : 5;
}

static void a_fetcher_resolves_names(void **state)
{
	if (geteuid() != 0)
		skip();
	make_world();
	assert_int_equal(in_child(resolve), 0);
}

/* What filters must not stand in the way of. */
static void *in_thread(void *ctx)
{
	return ctx;
}

static int work_as_engine(void)
{
	struct err e = ERR_INIT;
	pthread_t thread;
	void *big;
	int status;
	pid_t pid;

	if (isolate_engine(1999000001, 1999000001, &e) < 0 || filter_anchor(&e) < 0)
		return 2;
	pid = spawn_sharing_files(NULL);
	if (pid == 0) {
		if (filter_engine(&e) < 0)
			_exit(3);
		big = malloc(64u << 20);
		if (!big || pthread_create(&thread, NULL, in_thread, big) != 0 ||
		    pthread_join(thread, NULL) != 0)
			_exit(4);
		free(big);
		usleep(1000);
		abort();
	}
	if (waitpid(pid, &status, 0) != pid)
		return 5;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? 0 : 6;
}

static void an_engine_can_work(void **state)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(work_as_engine), 0);
}

/* Two of one user: neither looks into the other. */
static int look_into_the_other(void)
{
	struct err e = ERR_INIT;
	int ready[2], r;
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return 2;
	pid = fork();
	if (pid == 0) {
		r = isolate_engine(1999000001, 1999000001, &e);
		(void)!write(ready[1], "x", 1);
		pause();
		_exit(r);
	}
	if (isolate_engine(1999000001, 1999000001, &e) < 0 || read(ready[0], &byte, 1) != 1)
		return 3;
	r = ptrace(PTRACE_ATTACH, pid, NULL, NULL) < 0 && errno == EPERM ? 0 : 4;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return r;
}

static void nobody_of_the_same_user_looks_in(void **state)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(look_into_the_other), 0);
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
}

static void landlock_goes_beyond_chroot(void **state)
{
	if (geteuid() != 0 || isolate_landlock() < 0)
		skip();
	make_world();
	assert_int_equal(in_child(reach_beside), 0);
}

static void without_landlock_a_fetcher_works(void **state)
{
	if (geteuid() != 0)
		skip();
	make_world();
	assert_int_equal(in_child(do_without), 0);
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
		cmocka_unit_test_teardown(rights_are_gone, remove_world),
		cmocka_unit_test(an_engine_is_locked_in),
		cmocka_unit_test_teardown(a_fetcher_is_locked_in, remove_world),
		cmocka_unit_test_teardown(a_fetcher_resolves_names, remove_world),
		cmocka_unit_test(an_engine_can_work),
		cmocka_unit_test(nobody_of_the_same_user_looks_in),
		cmocka_unit_test_teardown(landlock_goes_beyond_chroot, remove_world),
		cmocka_unit_test_teardown(without_landlock_a_fetcher_works, remove_world),
		cmocka_unit_test(a_keeper_wants_all_its_capabilities),
	};

	if (memory < 0 || ftruncate(memory, 4096) < 0)
		return 1;
	seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (seen == MAP_FAILED)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("rights", tests + BUT_STRICT(3),
				       ARRAY_LEN(tests) - BUT_STRICT(3), NULL, NULL);
}
