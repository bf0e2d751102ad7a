/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "plugin/broker.h"
#include "plugin/fault/fan.h"
#include "plugin/fault/slots.h"
#include "plugin/guard.h"
#include "plugin/isolate.h"
#include "plugin/linger.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/solo.h"
#include "plugin/spawn.h"
#include "plugin/start.h"
#include "plugin/uapi.h"

#define TICK_MS    250   /* how often deadlines are looked at */
#define STOP_MS    20000 /* what an engine gets for writing everything down */
#define RESPAWN_MS 100
#define GONE_MS    5000 /* how often it is looked whether those that wait are still there */

struct keeper {
	struct birth birth;
	struct ward *ward;
	struct loop *loop; /* owned */
	uint32_t ticks;
	struct broker *broker;
	struct loop_io *io_anchor, *io_guardian;
	struct loop_io *io_linger, *io_successor; /* one of them, in an orphan */
	uint64_t stop_since_ms;                   /* 0 while not stopping */
	bool finishing;                           /* the engine has ended for good */
	int group[2];
};

/* --- the anchor, and with it the engine --- */

static void start_anchor(void *ctx);

/* Nobody waits for us yet, and the guardian has been told why: see start.h. */
static void end_unless_ready(const struct keeper *k)
{
	if (!ward_ready(&k->birth))
		_exit(EXIT_FAILURE);
}

/* On the main loop again: everything that could be taken down is. */
static int finished(void *ctx, int result)
{
	struct keeper *k = ctx;

	atomic_store(&k->ward->keeper_result, result);
	loop_quit(k->loop);
	return 0;
}

static void anchor_exited(void *ctx, uint32_t events)
{
	struct keeper *k = ctx;
	struct ward *w = k->ward;

	k->io_anchor = loop_remove_io(k->io_anchor);
	waitid(P_PIDFD, (id_t)w->anchor_pidfd, NULL, WEXITED | WNOHANG);
	ward_close(&w->anchor_pidfd);
	atomic_store(&w->anchor_pid, 0);
	if (k->stop_since_ms) {
		k->finishing = true;
		broker_finish(k->broker, k->loop, finished, k);
		return;
	}
	start_failed(k->birth.slots, "engine", -ECHILD,
		     &(struct err){.text = "its anchor ended; a new one is started"});
	end_unless_ready(k);
	loop_after(k->loop, RESPAWN_MS, start_anchor, k, NULL);
}

/* A keeper that does not see somebody's end is of no use: the next one takes over all there is. */
static void watch_or_end(struct keeper *k, int pidfd, loop_io_fn fn, struct loop_io **ret)
{
	int r = loop_add_io(k->loop, pidfd, EPOLLIN, false, fn, k, ret);

	if (r == 0)
		return;
	log_error("watching a process: %s", err_words(r));
	_exit(EXIT_FAILURE);
}

static void watch_anchor(struct keeper *k)
{
	watch_or_end(k, k->ward->anchor_pidfd, anchor_exited, &k->io_anchor);
}

/* What the keeper said to an engine that is gone, a word to stop perhaps, is not for the next. */
static void discard_messages(const struct ward *w)
{
	char byte;

	while (recv(w->fd_engine, &byte, 1, MSG_DONTWAIT | MSG_TRUNC) > 0)
		;
}

static void start_anchor(void *ctx)
{
	struct keeper *k = ctx;
	struct ward *w = k->ward;
	struct err e = ERR_INIT;
	pid_t pid;
	int pidfd;

	if (solo_lives(w->fd_store)) {
		loop_after(k->loop, RESPAWN_MS, start_anchor, k, NULL);
		return;
	}
	atomic_store(&k->birth.slots->engine_pid, 0);
	discard_messages(w);
	/* A new table: event descriptors of the old one are numbers only from now on. */
	k->birth.slots->table++;
	pid = spawn_anchor(&k->birth, &pidfd, &e);
	if (pid < 0) {
		start_failed(k->birth.slots, "keeper", pid, &e);
		end_unless_ready(k);
		loop_after(k->loop, 10 * RESPAWN_MS, start_anchor, k, NULL);
		return;
	}
	w->anchor_pidfd = pidfd;
	w->anchor_starts++;
	atomic_store(&w->anchor_pid, pid);
	atomic_store(&k->birth.slots->anchor_pid, pid);
	watch_anchor(k);
}

/* --- a tarnd that is started while whoever started this one has lost it --- */

static void await_successor(struct keeper *k);

static void successor_spoke(void *ctx, uint32_t events)
{
	struct keeper *k = ctx;

	k->io_successor = loop_remove_io(k->io_successor);
	if (!linger_agreed(k->ward)) {
		await_successor(k);
		return;
	}
	log_warn("another tarnd was started: this one stops and hands over to it");
	atomic_store(&k->ward->stopping, 1);
}

static void successor_called(void *ctx, uint32_t events)
{
	struct keeper *k = ctx;

	if (linger_greet(k->ward) < 0)
		return;
	k->io_linger = loop_remove_io(k->io_linger);
	if (loop_add_io(k->loop, k->ward->fd_successor, EPOLLIN, false, successor_spoke, k,
			&k->io_successor) < 0)
		ward_close(&k->ward->fd_successor);
}

/*
 * A guardian that a keeper made is not the process that a service manager, or a person, has in
 * hand: they see that tarnd has died, and start another.
 */
static void await_successor(struct keeper *k)
{
	int r;

	if (!atomic_load(&k->ward->orphan) || k->io_linger || k->ward->fd_linger < 0)
		return;
	ward_close(&k->ward->fd_successor); /* one that an earlier keeper has not heard */
	r = loop_add_io(k->loop, k->ward->fd_linger, EPOLLIN, false, successor_called, k,
			&k->io_linger);
	if (r < 0)
		log_error("watching for another tarnd: %s", err_words(r));
}

/* --- the guardian --- */

static void start_guardian(void *ctx);

static void guardian_exited(void *ctx, uint32_t events);

/*
 * On the main thread, while the broker stands still: clone3(2) knows nothing of the C library's
 * locks, and one that the broker held would stay locked in the child for ever.
 */
static int clone_guardian(void *ctx)
{
	struct keeper *k = ctx;
	struct ward *w = k->ward;
	pid_t pid = spawn_sharing_files(&w->guardian_pidfd);

	if (pid == 0)
		_exit(guard_run(&k->birth, false));
	if (pid < 0) {
		log_error("starting a guardian: %s", err_words(pid));
		loop_after(k->loop, 10 * RESPAWN_MS, start_guardian, k, NULL);
		return pid;
	}
	atomic_store(&w->orphan, 1);
	await_successor(k);
	watch_or_end(k, w->guardian_pidfd, guardian_exited, &k->io_guardian);
	return 0;
}

static void start_guardian(void *ctx)
{
	struct keeper *k = ctx;

	if (!k->stop_since_ms)
		broker_stand_still(k->broker, k->loop, clone_guardian, k);
}

static void guardian_exited(void *ctx, uint32_t events)
{
	struct keeper *k = ctx;

	k->io_guardian = loop_remove_io(k->io_guardian);
	ward_close(&k->ward->guardian_pidfd);
	if (k->stop_since_ms)
		return;
	log_error("the guardian ended; a new one is started");
	start_guardian(k);
}

/* --- the tick --- */

/* While the broker, which looks at them too, stands still. */
static int reread_settings(void *ctx)
{
	const struct birth *b = &((struct keeper *)ctx)->birth;
	struct err e = ERR_INIT;
	int r = settings_reread(b->config, b->verbose, &b->ward->settings, &e);

	if (r < 0) {
		log_error("%s; the old settings stay", e.text);
		return r;
	}
	b->slots->settings = b->ward->settings;
	log_info("settings were read again from %s", b->config);
	return 0;
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

/*
 * With the engine gone for good nobody answers what the broker may be waiting for in the middle of
 * a request: its own open of a file of a layer, or room for an answer. An exec or open reads
 * nothing by itself, and may go on.
 */
static void release_broker(struct keeper *k)
{
	/* Too small for two: there is no journal of what is read here, should we be killed. */
	char raw[2 * FAN_EVENT_METADATA_LEN - 1] __attribute__((aligned(8)));
	const struct fanotify_event_metadata *m = (const void *)raw;

	while (read(k->ward->fd_exec, raw, sizeof(raw)) >= (ssize_t)FAN_EVENT_METADATA_LEN) {
		fan_answer(k->ward->fd_exec, m->fd, FAN_ALLOW);
		close(m->fd);
	}
	slots_allow_exec(k->birth.slots, k->group);
	discard_messages(k->ward);
}

static void tick(void *ctx)
{
	struct keeper *k = ctx;
	struct slots *slots = k->birth.slots;
	const struct settings *s = &k->ward->settings;
	unsigned denied = slots_enforce(slots, k->group, TICK_MS, s->deadline_ms);

	if (denied)
		log_error("%u readers got EIO: their content did not come within %u s", denied,
			  s->deadline_ms / 1000);
	if (++k->ticks % (GONE_MS / TICK_MS) == 0)
		slots_deny_gone(slots, k->group, GONE_MS);
	if (atomic_exchange(&k->ward->reread, 0) && k->birth.config)
		broker_stand_still(k->broker, k->loop, reread_settings, k);
	check_stop(k);
	if (k->finishing)
		release_broker(k);
	/* Our own children are waited for; this is for what those that died left to us. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	loop_after(k->loop, TICK_MS, tick, k, NULL);
}

static void quiet_signals(void)
{
	/* SIGIO: somebody opened a file during a lease probe. The others are the guardian's. */
	static const int ignored[] = {SIGIO, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
}

static int keeper_start(struct keeper *k, struct err *e)
{
	struct ward *w = k->ward;
	int r = isolate_keeper(e);

	if (r == 0 && !ward_ready(&k->birth))
		r = spawn_try_fetcher(&k->birth, e);
	if (r == 0)
		r = broker_start(&k->birth, &k->broker, e);
	if (r == 0)
		r = loop_new(&k->loop);
	if (r < 0)
		return r;
	if (!atomic_load(&w->stopping))
		await_successor(k);
	slots_deny_again(k->birth.slots, k->group, SLOT_DENYING);
	if (w->guardian_pidfd >= 0)
		watch_or_end(k, w->guardian_pidfd, guardian_exited, &k->io_guardian);
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
	struct keeper k = {
		.birth = *b, .ward = b->ward, .group = {b->ward->fd_content, b->ward->fd_exec}};
	struct err e = ERR_INIT;
	int r;

	log_init("tarnd[keeper]", LOG_INFO);
	log_follow(&b->ward->settings.log_level);
	quiet_signals();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	atomic_store(&b->ward->keeper_pid, getpid());
	atomic_store(&b->slots->keeper_pid, getpid());
	b->ward->keeper_starts++;
	r = keeper_start(&k, &e);
	if (r == 0)
		r = loop_run(k.loop);
	if (r < 0)
		start_failed(b->slots, "keeper", r, &e);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
