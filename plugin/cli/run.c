/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hooks/attach.h"
#include "hooks/find.h"
#include "hooks/private.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/cli/bundle.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/known.h"
#include "plugin/cli/rundir.h"

/* One container, from bundle to clean-up. */
struct run {
	struct bundle_want want;
	const char *runtime; /* --runtime or NULL */
	const char *name;    /* --name or NULL */
	bool rm, interactive;
	char id[LIMIT_ID];
	char dir[LIMIT_PATH]; /* the bundle, "" when there is none */
	int lock;             /* owned; see rundir.h */
	char *front;          /* owned: tarn-runtime */
};

static void run_free(struct run *rn)
{
	bundle_want_free(&rn->want);
	free(rn->front);
	cleanup_closep(&rn->lock);
}

static int take_option(const struct cli *cli, int id, struct run *rn)
{
	switch (id) {
	case OPT_RUNTIME:
		rn->runtime = optarg;
		return 0;
	case OPT_NAME:
		rn->name = optarg;
		return 0;
	case OPT_RM:
		rn->rm = true;
		return 0;
	case 'i':
		rn->interactive = true;
		return 0;
	default:
		return bundle_take_option(cli, id, &rn->want);
	}
}

static int choose_id(struct run *rn, struct err *e)
{
	uint64_t random;
	int r;

	if (rn->name) {
		r = attach_id_check(rn->name, e);
		if (r == 0)
			snprintf(rn->id, sizeof(rn->id), "%s", rn->name);
		return r;
	}
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_errno(e, -errno, "an id for the container");
	snprintf(rn->id, sizeof(rn->id), "tarn-%012llx",
		 (unsigned long long)(random & 0xffffffffffffull));
	return 0;
}

/* --- the runtime's process --- */

/* What a terminal sends goes to its whole foreground group; all else is for us alone. */
static void forwarded_signals(sigset_t *set)
{
	static const int list[] = {SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM,
				   SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};

	sigemptyset(set);
	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		sigaddset(set, list[i]);
}

static void exec_front(const struct run *rn, const sigset_t *mask)
{
	char *argv[] = {(char *)"tarn-runtime", (char *)"run",  (char *)"--bundle",
			(char *)rn->dir,        (char *)rn->id, NULL};

	/* A terminal that nobody asked to be read stays ours; pipes and files reach the container.
	 */
	if (!rn->interactive && !rn->want.terminal && isatty(STDIN_FILENO)) {
		int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

		if (null < 0 || dup2(null, STDIN_FILENO) < 0)
			_exit(1);
	}
	sigprocmask(SIG_SETMASK, mask, NULL);
	execv(rn->front, argv);
	_exit(127);
}

/* Returns the exit status: the container's own, or 128 and the signal that ended the runtime. */
static int wait_for(pid_t pid, const sigset_t *set)
{
	for (;;) {
		siginfo_t si;
		int status;

		if (sigwaitinfo(set, &si) < 0)
			continue;
		if (si.si_signo != SIGCHLD) {
			if (si.si_code <= 0)
				kill(pid, si.si_signo);
			continue;
		}
		if (waitpid(pid, &status, WNOHANG) != pid)
			continue;
		if (WIFEXITED(status))
			return WEXITSTATUS(status);
		if (WIFSIGNALED(status))
			return 128 + WTERMSIG(status);
	}
}

static int run_front(const struct run *rn, int *ret_status, struct err *e)
{
	sigset_t set, old;
	pid_t pid;

	forwarded_signals(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	pid = fork();
	if (pid < 0)
		return err_errno(e, -errno, "fork");
	if (pid == 0)
		exec_front(rn, &old);
	*ret_status = wait_for(pid, &set);
	return 0;
}

/* --- the whole --- */

static int set_environment(const struct cli *cli, const struct run *rn)
{
	if (setenv("TARN_SOCKET", cli->socket, 1) < 0 ||
	    (cli->verbose && setenv("TARN_VERBOSE", "1", 1) < 0))
		return -errno;
	return rn->runtime && setenv("TARN_RUNTIME", rn->runtime, 1) < 0 ? -errno : 0;
}

static int run_container(const struct cli *cli, struct run *rn, int *ret_status, struct err *e)
{
	_cleanup_free_ char *runtime = NULL;
	int r = find_sibling("tarn-runtime", NULL, &rn->front, e);

	/* It would fail, but only after its bundle was made, and --rm would be about the other. */
	if (r == 0 && rn->name && runtime_knows(rn->id))
		r = err_set(e, -EEXIST,
			    "there is a container %s already: remove it first, or take another "
			    "--name",
			    rn->id);
	/* Asked for here, so that a runtime that is not there is noticed before any work. */
	if (r == 0)
		r = find_runtime(rn->runtime ? rn->runtime : getenv("TARN_RUNTIME"), NULL, &runtime,
				 e);
	if (r == 0)
		r = rundir_make(rn->id, rn->dir, &rn->lock, e);
	if (r == 0)
		r = bundle_make(cli, &rn->want, rn->dir, e);
	if (r < 0)
		return r;
	fflush(stdout);
	r = set_environment(cli, rn);
	return r < 0 ? err_errno(e, r, "environment") : run_front(rn, ret_status, e);
}

static int check(const struct cli *cli, struct run *rn)
{
	struct err e = ERR_INIT;

	if (choose_id(rn, &e) < 0)
		return cli_usage(cli, "--name: %s", e.text);
	if (rn->want.terminal && !isatty(STDIN_FILENO))
		return cli_usage(cli, "-t needs a terminal to read from");
	return 0;
}

int cmd_run(int argc, char **argv, const struct cli *cli)
{
	_cleanup_(run_free) struct run rn = {.lock = -1};
	struct err e = ERR_INIT, gone = ERR_INIT;
	int id, r, status = 1;

	while ((id = cli_getopt(cli, argc, argv)) != -1) {
		r = take_option(cli, id, &rn);
		if (r != 0)
			return r;
	}
	r = check(cli, &rn);
	if (r != 0)
		return r;
	rn.want.image = argv[optind];
	rn.want.args = argv + optind + 1;
	rn.want.nargs = (size_t)(argc - optind - 1);
	/* With --rm it is removed below: while the runtime runs its hooks it still holds the mount.
	 */
	rn.want.keep = true;
	r = run_container(cli, &rn, &status, &e);
	if (rn.dir[0])
		rundir_remove(rn.dir);
	if (r < 0)
		return cli_fail(cli, &e);
	if (rn.rm && attach_remove(cli->socket, rn.id, &gone) < 0 && !cli->quiet)
		fprintf(stderr, "tarn: removing what %s wrote: %s\n", rn.id, gone.text);
	return status;
}
