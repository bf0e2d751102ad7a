/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/filter.h"

#define NOBODY 65534

/* Newer than the headers of the distributions we build on: linux/landlock.h. */
#define FS_REFER     (1ull << 13)
#define FS_TRUNCATE  (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)

/*
 * Leaves exactly @keep in the permitted and effective sets. The bounding set is emptied: no
 * program that this process might execute gets anything.
 */
static int keep_caps(const cap_value_t *keep, int nkeep, struct err *e)
{
	cap_t caps = cap_init(); /* empty */
	int r = 0;

	if (!caps)
		return err_set(e, -ENOMEM, "out of memory");
	for (cap_value_t c = 0; c <= cap_max_bits() && r == 0; c++)
		if (cap_get_bound(c) == 1 && cap_drop_bound(c) < 0)
			r = -errno;
	if (r == 0 && nkeep > 0 &&
	    (cap_set_flag(caps, CAP_PERMITTED, nkeep, keep, CAP_SET) < 0 ||
	     cap_set_flag(caps, CAP_EFFECTIVE, nkeep, keep, CAP_SET) < 0))
		r = -errno;
	if (r == 0 && (cap_reset_ambient() < 0 || cap_set_proc(caps) < 0))
		r = -errno;
	cap_free(caps);
	return r < 0 ? err_errno(e, r, "dropping capabilities") : 0;
}

/*
 * SYS_ADMIN: fanotify, mounts. DAC_READ_SEARCH: opening EROFS files by handle, layouts of any
 * owner. LEASE: the eviction proof. KILL, SETUID, SETGID, SYS_CHROOT: making and ending engine and
 * fetchers. CHOWN, DAC_OVERRIDE, FOWNER, SETFCAP, FSETID: a container's upper directory that looks
 * like the image's root, removing what a container wrote, and all that it writes: overlayfs does
 * that with the rights of whoever mounted it. tests/kernel/rights.bats goes without each of them.
 * SYS_PTRACE is not needed and not kept, nor is SETPCAP once the bounding set is empty.
 */
static const cap_value_t keeper_caps[] = {
	CAP_SYS_ADMIN,  CAP_DAC_READ_SEARCH, CAP_LEASE,        CAP_KILL,   CAP_SETUID, CAP_SETGID,
	CAP_SYS_CHROOT, CAP_CHOWN,           CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP,
};

static bool is_permitted(cap_t caps, cap_value_t cap)
{
	cap_flag_value_t on = CAP_CLEAR;

	return caps && cap_get_flag(caps, cap, CAP_PERMITTED, &on) == 0 && on == CAP_SET;
}

static bool is_bounding_set_empty(void)
{
	for (cap_value_t c = 0; c <= cap_max_bits(); c++)
		if (cap_get_bound(c) == 1)
			return false;
	return true;
}

/* Appends the name of @cap to the @n bytes of @out if @caps lack it; how many there are then. */
static size_t note_lacking(cap_t caps, cap_value_t cap, char *out, size_t size, size_t n)
{
	char *name;

	if (n >= size || is_permitted(caps, cap))
		return n;
	name = cap_to_name(cap);
	n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", name ? name : "?");
	cap_free(name);
	return n;
}

void isolate_keeper_lacks(char *out, size_t size)
{
	cap_t now = cap_get_proc();
	size_t n = 0;

	out[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(keeper_caps); i++)
		n = note_lacking(now, keeper_caps[i], out, size, n);
	if (!is_bounding_set_empty())
		note_lacking(now, CAP_SETPCAP, out, size, n);
	cap_free(now);
}

int isolate_keeper(struct err *e)
{
	char lacks[256];

	/* Noticed later it would be a container that fails, or one that is half supervised. */
	isolate_keeper_lacks(lacks, sizeof(lacks));
	if (lacks[0])
		return err_set(e, -EPERM,
			       "capabilities are missing: %s; run tarnd as root, outside of "
			       "containers that drop them",
			       lacks);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(e, -errno, "no_new_privs");
	return keep_caps(keeper_caps, ARRAY_LEN(keeper_caps), e);
}

int isolate_holder(struct err *e)
{
	return keep_caps(NULL, 0, e);
}

static int drop_ids(uid_t uid, gid_t gid, struct err *e)
{
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_errno(e, -errno, "becoming uid %u", uid);
	return 0;
}

static int no_rights(uid_t uid, gid_t gid, struct err *e)
{
	static const cap_value_t ids[] = {CAP_SETUID, CAP_SETGID};
	int r = keep_caps(ids, ARRAY_LEN(ids), e);

	if (r == 0)
		r = drop_ids(uid, gid, e);
	if (r == 0)
		r = keep_caps(NULL, 0, e);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = err_errno(e, -errno, "no_new_privs");
	/* Not even others of the same user look into it, or trace it. */
	if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = err_errno(e, -errno, "PR_SET_DUMPABLE");
	return r;
}

int isolate_engine(uid_t uid, gid_t gid, struct err *e)
{
	/*
	 * What processes are called and which group they are in (ctl/proc.c) is all that it may
	 * look up by name. Landlock would not do: it judges the files of events, too.
	 */
	if (chdir("/proc") < 0 || chroot(".") < 0)
		return err_errno(e, -errno, "changing the root directory to /proc");
	return no_rights(uid, gid, e);
}

int isolate_landlock(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? -errno : (int)abi;
}

/* What landlock can refuse since its first version, and what came with later ones. */
static uint64_t all_access(int abi)
{
	uint64_t all = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (abi >= 2)
		all |= FS_REFER;
	if (abi >= 3)
		all |= FS_TRUNCATE;
	if (abi >= 5)
		all |= FS_IOCTL_DEV;
	return all;
}

/* Beneath @dir files may be read; nothing else can be done to a file anywhere. */
static int only_read_beneath(int dir, int abi)
{
	const struct landlock_ruleset_attr all = {.handled_access_fs = all_access(abi)};
	const struct landlock_path_beneath_attr beneath = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
		.parent_fd = dir,
	};
	_cleanup_fd_ int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

	if (rules < 0 ||
	    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return -errno;
	return 0;
}

/*
 * The directory is the whole world already, by chroot(2); this holds also for what a descriptor
 * that should not be there could reach. A kernel without landlock does without.
 */
static int landlock_fetcher(int dir, struct err *e)
{
	int abi = isolate_landlock();
	int r = abi < 0 ? abi : only_read_beneath(dir, abi);

	if (r == -ENOSYS || r == -EOPNOTSUPP)
		return 0;
	return r < 0 ? err_errno(e, r, "landlock") : 0;
}

int isolate_fetcher(int root_fd, uid_t uid, gid_t gid, struct err *e)
{
	_cleanup_fd_ int root = root_fd;
	_cleanup_fd_ int etc = -1;
	int r;

	if (fchdir(root) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_errno(e, -errno, "changing the root directory");
	etc = open("/etc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (etc < 0)
		return err_errno(e, -errno, "the resolver's files");
	r = no_rights(uid, gid, e);
	if (r == 0)
		r = landlock_fetcher(etc, e);
	cleanup_closep(&root);
	cleanup_closep(&etc);
	return r == 0 ? filter_fetcher(e) : r;
}

/* --- isolate_call: a child without rights, its result over a pipe --- */

struct result_head {
	int32_t code;
	uint32_t len;
	char text[ERR_TEXT_MAX];
	struct err_links links;
};

#define RESULT_FD 3

/* Of the caller's descriptors none stays: there is its connection to tarnd among them. */
static int only_fd(int out)
{
	if (out != RESULT_FD && dup2(out, RESULT_FD) < 0)
		return -errno;
	for (int fd = 0; fd < RESULT_FD; fd++)
		close(fd);
	return close_range(RESULT_FD + 1, ~0u, 0) < 0 ? -errno : 0;
}

static void run_child(int (*fn)(void *, struct buf *, struct err *), void *ctx, size_t max, int out)
{
	static const struct rlimit nothing = {0, 0};
	struct result_head head = {0};
	struct err e = ERR_INIT;
	struct buf b;
	int r = only_fd(out);

	if (r < 0)
		_exit(1);
	buf_init(&b, max);
	/* Nothing is opened, not even with the rights of nobody. Tools of root run as root; a user
	 * who lacks the right to drop has nothing to lose here.
	 */
	if (geteuid() == 0)
		r = no_rights(NOBODY, NOBODY, &e);
	if (r == 0 && setrlimit(RLIMIT_FSIZE, &nothing) < 0)
		r = err_errno(&e, -errno, "limiting a child");
	if (r == 0)
		r = filter_parser(&e);
	if (r == 0)
		r = fn(ctx, &b, &e);
	if (r == 0 && b.failed)
		r = err_errno(&e, b.failed, "result");
	head.code = r;
	head.len = r < 0 ? 0 : (uint32_t)b.len;
	memcpy(head.text, e.text, sizeof(head.text));
	head.links = e.links;
	if (fd_write_full(RESULT_FD, &head, sizeof(head)) == 0 && head.len)
		fd_write_full(RESULT_FD, b.data, head.len);
	_exit(0);
}

static int read_result(int in, struct buf *out, struct err *e)
{
	_cleanup_buf_ struct buf raw = {0};
	struct result_head head = {0};
	int r;

	buf_init(&raw, out->max + sizeof(head));
	r = fd_read_all(in, &raw);
	if (r < 0)
		return err_errno(e, r, "reading from a child");
	if (raw.len >= sizeof(head))
		memcpy(&head, raw.data, sizeof(head));
	if (raw.len < sizeof(head) || raw.len - sizeof(head) != head.len)
		return err_set(e, -EIO, "the process that parses image data ended unexpectedly");
	head.text[sizeof(head.text) - 1] = '\0';
	if (head.code < 0)
		return err_take(e, head.code, head.text, &head.links);
	return buf_put(out, raw.data + sizeof(head), raw.len - sizeof(head));
}

int isolate_call(int (*fn)(void *ctx, struct buf *out, struct err *e), void *ctx, struct buf *out,
		 struct err *e)
{
	int pipefd[2], r, status;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "pipe");
	pid = fork();
	if (pid == 0) {
		close(pipefd[0]);
		run_child(fn, ctx, out->max, pipefd[1]);
	}
	close(pipefd[1]);
	r = pid < 0 ? err_errno(e, -errno, "fork") : read_result(pipefd[0], out, e);
	close(pipefd[0]);
	if (pid > 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	return r;
}
