/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/keeper.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker.h"
#include "plugin/fault/slots.h"
#include "plugin/guard.h"
#include "plugin/isolate.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/spawn.h"

#define TICK_MS       250   /* how often deadlines are looked at */
#define STOP_MS       20000 /* what an engine gets for writing everything down */
#define RESPAWN_MS    100

struct keeper {
	struct birth birth;
	struct ward *ward;
	struct loop *loop;          /* owned */
	struct broker *broker;
	struct loop_io *io_anchor, *io_guardian;
	uint64_t stop_since_ms;     /* 0 while not stopping */
	int group[2];
};

/* --- the anchor, and with it the engine --- */

static void start_anchor(void *ctx);

static void anchor_exited(void *ctx, uint32_t events)
{
	struct keeper *k = ctx;
	struct ward *w = k->ward;

	k->io_anchor = loop_remove_io(k->io_anchor);
	waitid(P_PIDFD, (id_t)w->anchor_pidfd, NULL, WEXITED | WNOHANG);
	ward_close(&w->anchor_pidfd);
	atomic_store(&w->anchor_pid, 0);
	if (k->stop_since_ms) {
		atomic_store(&w->keeper_result, broker_finish(k->broker));
		loop_quit(k->loop);
		return;
	}
	log_error("the engine's anchor ended; a new one is started");
	loop_after(k->loop, RESPAWN_MS, start_anchor, k, NULL);
}

static void watch_anchor(struct keeper *k)
{
	int r = loop_add_io(k->loop, k->ward->anchor_pidfd, EPOLLIN, false, anchor_exited, k,
			    &k->io_anchor);

	if (r < 0)
		log_error("watching the anchor: %s", err_words(r));
}

static void start_anchor(void *ctx)
{
	struct keeper *k = ctx;
	struct ward *w = k->ward;
	struct err e = ERR_INIT;
	pid_t pid;
	int pidfd;

	/* A new table: event descriptors of the old one are numbers only from now on. */
	k->birth.slots->table++;
	pid = spawn_anchor(&k->birth, &pidfd, &e);
	if (pid < 0) {
		log_error("%s", e.text);
		loop_after(k->loop, 10 * RESPAWN_MS, start_anchor, k, NULL);
		return;
	}
	w->anchor_pidfd = pidfd;
	w->anchor_starts++;
	atomic_store(&w->anchor_pid, pid);
	atomic_store(&k->birth.slots->anchor_pid, pid);
	watch_anchor(k);
}

/* --- the guardian --- */

static void guardian_exited(void *ctx, uint32_t events)
{
	struct keeper *k = ctx;
	struct ward *w = k->ward;
	pid_t pid;

	k->io_guardian = loop_remove_io(k->io_guardian);
	ward_close(&w->guardian_pidfd);
	if (k->stop_since_ms)
		return;
	log_error("the guardian ended; a new one is started");
	pid = spawn_sharing_files(&w->guardian_pidfd);
	if (pid == 0)
		_exit(guard_run(&k->birth, false));
	if (pid < 0) {
		log_error("starting a guardian: %s", err_words(pid));
		return;
	}
	loop_add_io(k->loop, w->guardian_pidfd, EPOLLIN, false, guardian_exited, k,
		    &k->io_guardian);
}

/* --- the tick --- */

static void reread_settings(struct keeper *k)
{
	struct settings *s = &k->birth.slots->settings;
	struct settings next;
	struct err e = ERR_INIT;

	if (!k->birth.config)
		return;
	settings_default(&next);
	if (settings_load(k->birth.config, &next, &e) < 0) {
		log_error("%s; the old settings stay", e.text);
		return;
	}
	*s = next;
	log_set_level((enum log_level)s->log_level);
	log_info("settings were read again from %s", k->birth.config);
}

static void check_stop(struct keeper *k)
{
	uint64_t now = clock_ms();

	if (!atomic_load(&k->ward->stopping))
		return;
	if (!k->stop_since_ms) {
		k->stop_since_ms = now;
		broker_stop_engine(k->broker);
	} else if (now - k->stop_since_ms > STOP_MS && k->ward->anchor_pidfd >= 0) {
		log_error("the engine does not stop; it is killed");
		syscall(SYS_pidfd_send_signal, k->ward->anchor_pidfd, SIGKILL, NULL, 0);
	}
}

static void tick(void *ctx)
{
	struct keeper *k = ctx;
	struct slots *slots = k->birth.slots;
	unsigned denied = slots_enforce(slots, k->group, TICK_MS, slots->settings.deadline_ms);

	if (denied)
		log_error("%u readers got EIO: their content did not come within %u s", denied,
			  slots->settings.deadline_ms / 1000);
	if (atomic_exchange(&k->ward->reread, 0))
		reread_settings(k);
	check_stop(k);
	loop_after(k->loop, TICK_MS, tick, k, NULL);
}

static void quiet_signals(void)
{
	/* SIGIO: somebody opened a file during a lease probe. The others are the guardian's. */
	static const int ignored[] = { SIGIO, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE };

	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
}

static int keeper_start(struct keeper *k, struct err *e)
{
	struct ward *w = k->ward;
	int r = isolate_keeper(e);

	if (r == 0)
		r = broker_start(&k->birth, &k->broker, e);
	if (r == 0)
		r = loop_new(&k->loop);
	if (r < 0)
		return r;
	slots_deny_again(k->birth.slots, k->group, SLOT_DENYING);
	if (w->guardian_pidfd >= 0)
		loop_add_io(k->loop, w->guardian_pidfd, EPOLLIN, false, guardian_exited, k,
			    &k->io_guardian);
	/* An anchor of an earlier keeper serves on and is adopted. */
	if (w->anchor_pidfd >= 0)
		watch_anchor(k);
	else
		start_anchor(k);
	tick(k);
	return 0;
}

int keeper_main(const struct birth *b)
{
	struct keeper k = { .birth = *b, .ward = b->ward,
			    .group = { b->ward->fd_content, b->ward->fd_exec } };
	struct err e = ERR_INIT;
	int r;

	log_init("tarnd[keeper]", (enum log_level)b->slots->settings.log_level);
	quiet_signals();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	atomic_store(&b->ward->keeper_pid, getpid());
	atomic_store(&b->slots->keeper_pid, getpid());
	b->ward->keeper_starts++;
	r = keeper_start(&k, &e);
	if (r == 0)
		r = loop_run(k.loop);
	if (r < 0)
		log_error("keeper: %s", e.text[0] ? e.text : err_words(r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
