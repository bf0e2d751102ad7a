/* SPDX-License-Identifier: Apache-2.0 */
/*
 * without SYSCALL ERRNO COMMAND...: runs a command on a kernel that does not know a system call, or
 * seems not to: each call of it fails with the errno.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int nr, err;

	if (argc < 4 || !ctx) {
		fputs("usage: without SYSCALL ERRNO COMMAND...\n", stderr);
		return 2;
	}
	nr = seccomp_syscall_resolve_name(argv[1]);
	err = (int)strtol(argv[2], NULL, 10);
	/* The command is to keep its chance of more rights. */
	if (seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0) < 0 ||
	    seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)err), nr, 0) < 0 ||
	    seccomp_load(ctx) < 0) {
		fprintf(stderr, "without: cannot take %s away\n", argv[1]);
		return 2;
	}
	seccomp_release(ctx);
	execvp(argv[3], argv + 3);
	perror(argv[3]);
	return 127;
}
