/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manyexec N FILE: N processes execute FILE at the same moment. Prints how many ended in which way,
 * one line each: "exit 0: 64", "execve ETXTBSY: 1", "signal SIGBUS: 2".
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX 4096

static int *refused; /* errno of execve, by child; shared with all of them */

static int child(unsigned i, int gate, char *file)
{
	char *const argv[] = {file, NULL};
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Returns for all of them at once: when the other end is closed. */
	if (read(gate, &c, 1) != 0)
		return 1;
	execv(file, argv);
	refused[i] = errno;
	return 1;
}

static void add(char (*how)[64], unsigned *count, const char *text)
{
	unsigned i = 0;

	while (count[i] > 0 && strcmp(how[i], text) != 0)
		i++;
	snprintf(how[i], sizeof(how[i]), "%s", text);
	count[i]++;
}

static void report(const pid_t *pid, unsigned n)
{
	static char how[MAX][64];
	static unsigned count[MAX + 1];
	char text[64];
	int status;

	for (unsigned i = 0; i < n; i++) {
		waitpid(pid[i], &status, 0);
		if (refused[i])
			snprintf(text, sizeof(text), "execve %s", strerrorname_np(refused[i]));
		else if (WIFSIGNALED(status))
			snprintf(text, sizeof(text), "signal SIG%s",
				 sigabbrev_np(WTERMSIG(status)));
		else
			snprintf(text, sizeof(text), "exit %d", WEXITSTATUS(status));
		add(how, count, text);
	}
	for (unsigned i = 0; count[i] > 0; i++)
		printf("%s: %u\n", how[i], count[i]);
}

int main(int argc, char **argv)
{
	unsigned n = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	static pid_t pid[MAX];
	int gate[2];

	if (n == 0 || n > MAX || pipe(gate) < 0) {
		fputs("usage: manyexec N FILE\n", stderr);
		return 2;
	}
	refused = mmap(NULL, n * sizeof(*refused), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (refused == MAP_FAILED)
		return 2;
	for (unsigned i = 0; i < n; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			close(gate[1]);
			_exit(child(i, gate[0], argv[2]));
		}
		if (pid[i] < 0)
			return 2;
	}
	close(gate[1]);
	report(pid, n);
	return 0;
}
