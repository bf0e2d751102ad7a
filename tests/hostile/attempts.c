/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/hostile/attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "oci/base/cleanup.h"

/* --- files and programs --- */

static int try_open(void)
{
	return open("/etc/shadow", O_RDONLY | O_CLOEXEC);
}

static int try_open_relative(void)
{
	return open("../../../../../../etc/passwd", O_RDONLY | O_CLOEXEC);
}

static int try_write_file(void)
{
	return open("/exploit", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static int try_openat2(void)
{
	const struct {
		uint64_t flags, mode, resolve;
	} how = {0};

	return (int)syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how));
}

static int try_by_handle(void)
{
	struct {
		struct file_handle h;
		char room[16];
	} h = {.h = {.handle_bytes = 8, .handle_type = 1}};

	return (int)syscall(SYS_open_by_handle_at, AT_FDCWD, &h, O_RDONLY);
}

static int try_mkdir(void)
{
	return mkdirat(AT_FDCWD, "/exploit", 0700);
}

static int try_chmod(void)
{
	return fchmod(2, 0777);
}

static int try_exec(void)
{
	char *const argv[] = {(char *)"true", NULL};

	return execv("/bin/true", argv);
}

/* A program that needs no file: from memory. */
static int try_exec_memory(void)
{
	_cleanup_fd_ int fd = memfd_create("exploit", 0);
	char *const argv[] = {(char *)"exploit", NULL};

	return fd < 0 ? -1 : (int)syscall(SYS_execveat, fd, "", argv, argv + 1, AT_EMPTY_PATH);
}

static int try_executable_memory(void)
{
	const void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -1 : 0;
}

static int try_make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -1 : mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

/* --- other processes --- */

static int try_ptrace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int try_read_memory(void)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)&attempts, 1};

	return (int)process_vm_readv(getpid(), &here, 1, &there, 1, 0);
}

static int try_kill(void)
{
	return kill(getpid(), 0);
}

static int try_kill_thread(void)
{
	return (int)syscall(SYS_tgkill, 1, 1, SIGKILL);
}

static int try_kill_by_pidfd(void)
{
	return (int)syscall(SYS_pidfd_open, 1, 0);
}

/* The kernel sends the signal, to whoever is named the owner. */
static int try_kill_by_owner(void)
{
	return fcntl(2, F_SETOWN, 1);
}

static int try_fork(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static int try_fork_clone3(void)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	return (int)syscall(SYS_clone3, &args, sizeof(args));
}

static int try_priority(void)
{
	return setpriority(PRIO_PROCESS, 1, 10);
}

static int try_limits(void)
{
	struct rlimit l;

	return (int)syscall(SYS_prlimit64, 1, RLIMIT_CORE, NULL, &l);
}

/* --- rights and namespaces --- */

static int try_setuid(void)
{
	return (int)syscall(SYS_setuid, 0);
}

static int try_capset(void)
{
	return (int)syscall(SYS_capset, NULL, NULL);
}

static int try_new_user_namespace(void)
{
	return (int)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
}

static int try_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static int try_setns(void)
{
	return setns(0, 0);
}

static int try_mount(void)
{
	return mount("none", "/", "tmpfs", 0, NULL);
}

static int try_fsopen(void)
{
	return (int)syscall(SYS_fsopen, "tmpfs", 0);
}

static int try_chroot(void)
{
	return chroot("/");
}

/* --- sockets --- */

static int try_unix_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int try_packet_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int try_raw_socket(void)
{
	return socket(AF_INET, SOCK_RAW, 1);
}

static int try_netlink_socket(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0);
}

static int try_vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM, 0);
}

static int try_alg_socket(void)
{
	return socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static int try_tcp_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0);
}

/* A pair of datagram sockets can be connected to others than each other. */
static int try_connect_elsewhere(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0tarn-exploit"};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
		return -1;
	return connect(pair[0], (struct sockaddr *)&a, sizeof(a)) < 0 && errno == EPERM ? -1 : 0;
}

static int try_listen(void)
{
	return listen(0, 1);
}

static int try_interface(void)
{
	struct ifreq r = {.ifr_name = "lo"};

	return ioctl(2, SIOCGIFFLAGS, &r);
}

/* --- the kernel's large surfaces --- */

static int try_bpf(void)
{
	return (int)syscall(SYS_bpf, 0, NULL, 0);
}

static int try_io_uring(void)
{
	char params[256] = "";

	return (int)syscall(SYS_io_uring_setup, 1, params);
}

static int try_userfaultfd(void)
{
	return (int)syscall(SYS_userfaultfd, 0);
}

static int try_perf(void)
{
	return (int)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0);
}

static int try_keyring(void)
{
	return (int)syscall(SYS_add_key, "user", "exploit", "x", 1, -3);
}

static int try_module(void)
{
	return (int)syscall(SYS_finit_module, 0, "", 0);
}

static int try_fanotify(void)
{
	return (int)syscall(SYS_fanotify_init, 0, 0);
}

static int try_seccomp(void)
{
	return (int)syscall(SYS_seccomp, 2, 0, NULL);
}

static int try_reboot(void)
{
	return (int)syscall(SYS_reboot, 0, 0, 0, NULL);
}

const struct attempt attempts[] = {
	{"open", try_open, true, false},
	{"open with ..", try_open_relative, true, false},
	{"write a file", try_write_file, false, false},
	{"openat2", try_openat2, false, false},
	{"open by handle", try_by_handle, false, false},
	{"mkdir", try_mkdir, false, false},
	{"chmod", try_chmod, false, false},
	{"exec", try_exec, false, false},
	{"exec from memory", try_exec_memory, false, false},
	{"memory that can be executed", try_executable_memory, false, false},
	{"memory made executable", try_make_executable, false, false},
	{"ptrace", try_ptrace, false, false},
	{"read another's memory", try_read_memory, false, false},
	{"kill", try_kill, false, false},
	{"tgkill", try_kill_thread, false, false},
	{"pidfd_open", try_kill_by_pidfd, false, false},
	{"F_SETOWN", try_kill_by_owner, false, false},
	{"fork", try_fork, false, false},
	{"fork by clone3", try_fork_clone3, true, false},
	{"setpriority", try_priority, false, false},
	{"prlimit", try_limits, false, false},
	{"setuid", try_setuid, false, false},
	{"capset", try_capset, false, false},
	{"a user namespace", try_new_user_namespace, false, false},
	{"unshare", try_unshare, false, false},
	{"setns", try_setns, false, false},
	{"mount", try_mount, false, false},
	{"fsopen", try_fsopen, false, false},
	{"chroot", try_chroot, false, false},
	{"AF_UNIX", try_unix_socket, true, false},
	{"AF_PACKET", try_packet_socket, false, false},
	{"a raw socket", try_raw_socket, false, false},
	{"AF_NETLINK", try_netlink_socket, true, false},
	{"AF_VSOCK", try_vsock, false, false},
	{"AF_ALG", try_alg_socket, false, false},
	{"AF_INET", try_tcp_socket, false, true},
	{"a datagram pair, connected elsewhere", try_connect_elsewhere, false, false},
	{"listen", try_listen, false, false},
	{"an interface", try_interface, false, false},
	{"bpf", try_bpf, false, false},
	{"io_uring", try_io_uring, false, false},
	{"userfaultfd", try_userfaultfd, false, false},
	{"perf_event_open", try_perf, false, false},
	{"a keyring", try_keyring, false, false},
	{"a kernel module", try_module, false, false},
	{"fanotify_init", try_fanotify, false, false},
	{"seccomp", try_seccomp, false, false},
	{"reboot", try_reboot, false, false},
};
const size_t nattempts = ARRAY_LEN(attempts);
