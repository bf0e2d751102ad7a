/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/guard.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/fdstore.h"
#include "plugin/keeper.h"
#include "plugin/linger.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/notify.h"
#include "plugin/solo.h"
#include "plugin/spawn.h"
#include "plugin/start.h"

#define READY_LINE "tarnd: ready\n"
#define END_MS     5000 /* what killed processes get until they are not waited for */
#define QUICK_MS   500  /* a keeper that lives shorter has crashed at its start */

/* To leave a holder of layers behind: within what systemd gives a service to stop (90 s). */
#define FORK_TRIES    100
#define FORK_PAUSE_US 100000u

static volatile sig_atomic_t got_stop, got_reread;
static bool announced;

static void on_stop(int sig)
{
	got_stop = 1;
}

static void on_reread(int sig)
{
	got_reread = 1;
}

/* Signals come in only while the guardian waits; @ret_mask is the mask to wait with. */
static void take_signals(sigset_t *ret_mask)
{
	const struct sigaction stop = {.sa_handler = on_stop};
	const struct sigaction reread = {.sa_handler = on_reread};
	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	sigaddset(&block, SIGHUP);
	sigprocmask(SIG_BLOCK, &block, NULL);
	sigemptyset(ret_mask);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGHUP, &reread, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void keeper_process(const struct birth *b, const sigset_t *mask)
{
	sigprocmask(SIG_SETMASK, mask, NULL);
	_exit(keeper_main(b));
}

static void start_keeper(const struct birth *b, const sigset_t *mask)
{
	struct ward *w = b->ward;
	pid_t pid;

	ward_close(&w->keeper_pidfd);
	atomic_store(&w->keeper_result, -1);
	/* Recorded before it runs: the first thing a keeper does is to close what nobody recorded.
	 */
	pid = spawn_sharing_files(&w->keeper_pidfd);
	if (pid == 0)
		keeper_process(b, mask);
	if (pid < 0)
		start_failed(b->slots, "starting a keeper", pid, NULL);
	else
		atomic_store(&w->keeper_pid, pid);
}

static void reap(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* Once, when the first engine of this tarnd can be asked. */
static void announce(const struct birth *b)
{
	if (announced || !ward_ready(b))
		return;
	announced = true;
	(void)!write(STDOUT_FILENO, READY_LINE, sizeof(READY_LINE) - 1);
	notify_systemd("READY=1");
}

/* Waits for the keeper's end or a signal. True when the keeper has ended. */
static bool wait_keeper(const struct birth *b, const sigset_t *mask)
{
	struct pollfd p = {.fd = b->ward->keeper_pidfd, .events = POLLIN};
	/* Nothing wakes us when the engine answers for the first time, so look often until then. */
	const struct timespec often = {.tv_sec = announced, .tv_nsec = announced ? 0 : 20000000};
	int n = ppoll(&p, 1, &often, mask);

	announce(b);
	if (got_stop && !atomic_exchange(&b->ward->stopping, 1))
		notify_systemd("STOPPING=1");
	if (got_reread) {
		got_reread = 0;
		atomic_store(&b->ward->reread, 1);
	}
	reap();
	return p.fd < 0 || (n > 0 && p.revents);
}

/* What is short now may not be soon; who stops us does not wait for ever. */
static pid_t fork_patiently(void)
{
	pid_t pid = fork();

	for (int i = 0; i < FORK_TRIES && pid < 0; i++) {
		usleep(FORK_PAUSE_US);
		pid = fork();
	}
	return pid;
}

/* Mounted layers outlive us: a copy of this process keeps what they need. */
static int leave_one_behind(const struct birth *b)
{
	const bool awaited = b->ward->fd_successor >= 0;
	pid_t pid;

	/* Who tells us to end once more is not to keep it from being done. */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	pid = fork_patiently();
	if (pid == 0)
		linger(b);
	if (pid < 0) {
		log_error("containers still use layers and no process can be left to hold them "
			  "(%s): this one stays",
			  err_words(-errno));
		linger(b);
	}
	if (!awaited)
		log_warn("containers still use layers of this store: process %d holds them; their "
			 "readers wait for content until tarnd is started again",
			 pid);
	return EXIT_SUCCESS;
}

static void end_process(int pidfd)
{
	if (pidfd >= 0)
		syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

/* A keeper that dies leaves its children behind. What sits in the kernel is not waited for. */
static void end_others(const struct birth *b)
{
	struct ward *w = b->ward;

	end_process(w->anchor_pidfd);
	for (int i = 0; i < WARD_FETCHERS; i++)
		if (w->fetcher[i].pid)
			end_process(w->fetcher[i].pidfd);
	for (int i = 0; i < END_MS / 10; i++) {
		struct pollfd anchor = {.fd = w->anchor_pidfd, .events = POLLIN};

		reap();
		if ((anchor.fd < 0 || poll(&anchor, 1, 0) > 0) && !solo_lives(w->fd_store))
			break;
		usleep(10000);
	}
	atomic_store(&w->anchor_pid, 0);
}

int guard_abandon(const struct birth *b, int status)
{
	/* Nobody could ask it for anything without a socket; systemd has it then, too. */
	if (b->ward && b->ward->fd_linger >= 0 && linger_needed(b->ward))
		leave_one_behind(b);
	return status;
}

/* Law 12: nobody waits for a tarnd that has never been ready, so it says why and ends. */
static int give_up(const struct birth *b)
{
	end_others(b);
	return guard_abandon(b, start_status(b->slots, "the keeper ended before it was ready"));
}

/* A crash at every start must not eat the machine. */
static void back_off(uint64_t born_ms, unsigned *quick)
{
	if (clock_ms() - born_ms >= QUICK_MS) {
		*quick = 0;
		return;
	}
	if (*quick < 5)
		(*quick)++;
	usleep(100000u << *quick);
}

int guard_run(const struct birth *b, bool first)
{
	struct ward *w = b->ward;
	uint64_t born = clock_ms();
	unsigned quick = 0;
	sigset_t mask;

	log_init("tarnd[guardian]", LOG_INFO);
	log_follow(&b->ward->settings.log_level);
	take_signals(&mask);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (first) {
		ward_close(&w->guardian_pidfd);
		w->guardian_pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	} else {
		/* The keeper made us and knows our pidfd; we look at it by its pid. */
		ward_close(&w->keeper_pidfd);
		w->keeper_pidfd = (int)syscall(SYS_pidfd_open, atomic_load(&w->keeper_pid), 0);
		announced = true;
	}
	atomic_store(&w->orphan, !first);
	atomic_store(&w->guardian_pid, getpid());
	atomic_store(&b->slots->guardian_pid, getpid());
	if (first)
		start_keeper(b, &mask);
	for (;;) {
		if (!wait_keeper(b, &mask))
			continue;
		if (atomic_load(&w->keeper_result) == KEEPER_STOPPED) {
			fdstore_clear(w);
			return EXIT_SUCCESS;
		}
		if (atomic_load(&w->keeper_result) == KEEPER_STAY)
			return leave_one_behind(b);
		if (!ward_ready(b))
			return give_up(b);
		log_error("the keeper ended; the next one is started");
		back_off(born, &quick);
		born = clock_ms();
		start_keeper(b, &mask);
	}
}
