/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/uapi.h"
#include "syscalls.h" /* made from the "#syscalls" notes beside the functions that need them */

#define CONDITIONS_MAX 3

/* Arguments are compared in 32 bits: all that are, are ints, whose upper halves mean nothing. */
struct call {
	const char *name;
	int error; /* 0: permitted, else what it fails with */
	unsigned nconditions;
	struct {
		unsigned arg;
		uint32_t mask, value;
	} condition[CONDITIONS_MAX];
};

/*
 * What the C library does on its own account: memory, none of which can be executed; time; the way
 * back from a signal; the end, by abort(3) too, but nobody else's end.
 *
 * #syscalls engine fetcher parser: brk munmap mremap madvise futex getpid gettid getrandom
 * #syscalls engine fetcher parser: mmap@2/PROT_EXEC=0 mprotect@2/PROT_EXEC=0 clock_gettime
 * #syscalls engine fetcher parser: rt_sigaction rt_sigprocmask rt_sigreturn tgkill@0=getpid()
 * #syscalls engine fetcher parser: exit exit_group write writev prctl@0=PR_SET_VMA
 *
 * Threads, as pthread_create(3) makes them: never another process, nor a new namespace. clone3(2)
 * hides its flags in memory, and the C library does without where there is none.
 *
 * #syscalls engine fetcher: clone@0/CLONE_THREAD=CLONE_THREAD clone3!ENOSYS set_robust_list rseq
 * #syscalls engine fetcher: sched_yield sched_getaffinity sigaltstack gettimeofday clock_nanosleep
 * #syscalls engine fetcher: nanosleep restart_syscall sysinfo close time
 *
 * qsort(3) and malloc(3) look at the machine (sysinfo, sched_getaffinity).
 *
 * Of a build for tests: what the sanitizers' run-time and gcov do.
 *
 * #syscalls test: mmap mprotect clone openat read lseek readlink readlinkat prlimit64 getrlimit
 * #syscalls test: sigaltstack sched_yield sched_getaffinity sched_getscheduler mincore msync pipe
 * #syscalls test: pipe2 personality getuid geteuid getgid getegid getppid fcntl ioctl stat fstat
 * #syscalls test: lstat newfstatat statx access faccessat mkdir mkdirat unlink unlinkat ftruncate
 * #syscalls test: getcwd uname gettimeofday clock_nanosleep nanosleep getrusage process_vm_readv
 * #syscalls test: close dup dup2 dup3 prctl tgkill rseq set_robust_list exit
 */

/* The library may be older than the kernel. */
static int number_of(const char *name)
{
	return strcmp(name, "cachestat") == 0 ? SYS_cachestat : seccomp_syscall_resolve_name(name);
}

static int add_call(scmp_filter_ctx ctx, const struct call *c)
{
	int nr = number_of(c->name);
	struct scmp_arg_cmp cmp[CONDITIONS_MAX];

	/* A call that this architecture does not have cannot be made. */
	if (nr == __NR_SCMP_ERROR || nr < 0)
		return 0;
	for (unsigned i = 0; i < c->nconditions; i++)
		cmp[i] = SCMP_CMP64(c->condition[i].arg, SCMP_CMP_MASKED_EQ, c->condition[i].mask,
				    c->condition[i].value);
	return seccomp_rule_add_array(
		ctx, c->error ? SCMP_ACT_ERRNO((uint32_t)c->error) : SCMP_ACT_ALLOW, nr,
		c->nconditions, cmp);
}

static int add_calls(scmp_filter_ctx ctx, const struct call *list, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++)
		r = add_call(ctx, &list[i]);
	return r;
}

#ifdef TARN_TEST_CALLS
static int add_more(scmp_filter_ctx ctx)
{
	const struct call more[] = {SYSCALLS_TEST};

	return add_calls(ctx, more, ARRAY_LEN(more));
}
#else
static int add_more(scmp_filter_ctx ctx)
{
	return 0;
}
#endif

/* Everything that is not on @list ends the process. */
static int allow_only(const struct call *list, size_t n, struct err *e)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!ctx)
		return err_set(e, -EOPNOTSUPP,
			       "this kernel has no system call filters that end a process "
			       "(CONFIG_SECCOMP_FILTER)");
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add_calls(ctx, list, n);
	if (r == 0)
		r = add_more(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? err_errno(e, r, "loading the system call filter") : 0;
}

int filter_engine(struct err *e)
{
	const struct call list[] = {SYSCALLS_ENGINE};

	return allow_only(list, ARRAY_LEN(list), e);
}

int filter_anchor(struct err *e)
{
	const struct call all[] = {SYSCALLS_ENGINE SYSCALLS_ANCHOR};
	struct call list[ARRAY_LEN(all)];
	size_t n = 0;

	/* What an engine is refused is the engine's filter's business. */
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (!all[i].error)
			list[n++] = all[i];
	return allow_only(list, n, e);
}

int filter_fetcher(struct err *e)
{
	const struct call list[] = {SYSCALLS_FETCHER};

	return allow_only(list, ARRAY_LEN(list), e);
}

int filter_parser(struct err *e)
{
	const struct call list[] = {SYSCALLS_PARSER};

	return allow_only(list, ARRAY_LEN(list), e);
}
