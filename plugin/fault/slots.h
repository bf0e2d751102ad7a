/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FAULT_SLOTS_H
#define PLUGIN_FAULT_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "oci/base/limits.h"
#include "oci/registry.h"
#include "plugin/settings.h"
#include "plugin/start.h"

/*
 * The journal of events that were read from the kernel and not yet answered, in memory shared by
 * keeper, anchor and engine. It outlives the engine: whatever the engine knew about a waiting
 * reader that the next engine needs is here (law 3).
 *
 * A slot's states, and who may move it:
 *
 *   FREE      → READING    engine, before read(2) of the group into `raw` (zeroed)
 *   READING   → FREE       engine, when nothing was there to read
 *   READING   → WAITING    engine, once the fields below are filled from `raw`
 *   WAITING   → ANSWERING  engine (compare-and-swap); `response` is stored before
 *   WAITING   → DENYING    keeper (compare-and-swap): the deadline passed
 *   WAITING   → BURYING    anchor (compare-and-swap), between engines: three died over it
 *   DENYING   → DENIED     keeper, after its answer went out; likewise
 *   BURYING   → DENIED     anchor
 *   ANSWERING → FREE       engine, after write(2), close(2) and zeroing `raw`
 *   DENIED    → FREE       engine, after close(2) and zeroing `raw`
 *
 * Only the engine closes `fd`, and only after the answer: the kernel knows events by their fd
 * number alone, and a number must not be drawn again while its event is open.
 *
 * A new engine, before it reads anything from a group: READING with event_len != 0 in `raw` was
 * read and becomes WAITING; ANSWERING is answered again (ENOENT means that it had been); DENIED
 * is closed and freed; DENYING and BURYING are left to whoever does it. A keeper or an anchor that
 * was killed half-way leaves such a slot to the next one, which has nobody beside it. When the fd
 * table was lost with the anchor (`table` differs from the new one's number) the fd numbers of
 * waiting slots are taken by placeholders, so that no new event can draw them; and READING with
 * event_len != 0 is answered at once, for nobody knows its file: an exec or open is allowed, a read
 * gets EIO.
 */
enum slot_state {
	SLOT_FREE = 0,
	SLOT_READING,
	SLOT_WAITING,
	SLOT_ANSWERING,
	SLOT_DENYING,
	SLOT_BURYING,
	SLOT_DENIED,
};

enum slot_group { SLOT_CONTENT = 0, SLOT_EXEC = 1 };

#define SLOT_RAW 64 /* one event: 24 bytes of metadata, 24 of a range record, and room */

struct slot {
	_Atomic uint32_t state;     /* enum slot_state */
	uint32_t group;             /* enum slot_group; set in READING */
	int32_t fd;                 /* event fd in the engine's table; the key of the answer */
	int32_t pid;                /* who waits (tgid) */
	uint64_t mask;              /* FAN_PRE_ACCESS, FAN_OPEN_EXEC_PERM, FAN_OPEN_PERM */
	uint64_t dev, ino;          /* of the file the event is about (fstat of fd) */
	uint64_t off, count;        /* the range; content group only */
	uint64_t since_ns;          /* CLOCK_MONOTONIC, when it was read */
	_Atomic uint32_t waited_ms; /* counted by the keeper while the slot waits for a source */
	_Atomic uint32_t frozen;    /* engine: not waiting for a source now (eviction, store I/O) */
	uint32_t response;          /* what goes, or went, to the kernel */
	_Atomic uint32_t deaths; /* SLOT_DEATH_* of each engine that died while it handled this */
	uint64_t table;          /* which fd table `fd` belongs to */
	uint8_t raw[SLOT_RAW] __attribute__((aligned(8)));
};

#define SLOTS_LOGINS   64 /* repositories whose password is remembered */
#define SLOTS_HANDLERS 64 /* threads of the engine that can be handling a slot */

struct slots {
	uint32_t count;             /* slots in use of s[]: see slots_count() */
	uint32_t descriptors;       /* that a process may have open; see plugin/descriptors.h */
	uint32_t most_clients;      /* of the control socket at once */
	uint64_t table;             /* number of the current engine fd table (keeper counts up) */
	_Atomic int32_t engine_pid; /* set by the anchor */
	_Atomic int32_t keeper_pid; /* its opens of EROFS files (lease probes) are always allowed */
	_Atomic int32_t guardian_pid, anchor_pid; /* for status */
	_Atomic uint32_t engine_starts;
	/* An fdatasync failed, in this engine's life or an earlier one's: what is UNPROVEN may be
	 * what readers were let at, with nobody left who holds its pages. */
	_Atomic uint32_t disk_failed;
	_Atomic uint32_t ready;        /* an engine answers, or did once, on the control socket */
	struct start_failure failure;  /* why there will never be one */
	_Atomic uint64_t heartbeat_ns; /* CLOCK_MONOTONIC of the engine loop's last round */
	/* Which slot each thread of the engine has in hand, + 1; 0 = none. Whoever finds the engine
	 * dead adds a death to these slots and to no others. */
	_Atomic uint32_t in_hand[SLOTS_HANDLERS];
	/* The devices of mounted layers, for an engine that nobody can tell: alone.h. */
	_Atomic uint32_t nmounted;
	struct {
		uint64_t dev;
		uint64_t sign; /* mount_sign() when it was mounted */
	} mounted[LIMIT_MOUNTED];
	struct settings settings; /* a copy of the ward's, for the engine */
	/* socket.group's number: the engine has no files in which to look for its name. */
	bool has_group;
	gid_t group;
	struct slot s[LIMIT_SLOTS];
	/* Who we are at which repository (store/sources.h): written by the engine and lost with the
	 * last process and what systemd keeps of it, never on disk. The oldest makes room. */
	uint32_t nlogins;
	struct registry_at login[SLOTS_LOGINS];
};

/*
 * An engine that was taken over may have written anything into this memory, and the keeper, which
 * is root, goes by it: no count is used as it stands there. This is how many of s[] are in use,
 * never more than there are.
 */
uint32_t slots_count(const struct slots *t);

/* --- engine side --- */

/* A FREE slot moved to READING with `raw` zeroed, or NULL when all are in use. */
struct slot *slots_take(struct slots *t);
/* READING → FREE: there was nothing to read. */
void slot_put_back(struct slot *s);
/*
 * READING → WAITING: fills the fields from `raw`. 0, or -EBADMSG when it is not an event we know
 * (the caller denies it).
 */
int slot_parse(struct slot *s);

/*
 * Answers and frees: WAITING → ANSWERING → FREE, or DENIED → FREE. @group_fd is the group the
 * event came from, @response FAN_ALLOW or FAN_DENY_WITH(errno). A slot that the keeper is
 * denying (DENYING) is left alone: -EAGAIN, call again later. Returns 0 when the slot is free.
 */
int slot_answer(struct slot *s, int group_fd, uint32_t response);

/* Makes the slots of a dead engine usable for this one, as described above. */
void slots_settle(struct slots *t, const int group_fd[2]);
/* Closes every descriptor from 3 up that is neither in @keep nor a slot's. */
#define SLOTS_KEEP_MAX 16
void slots_close_others(struct slots *t, const int *keep, int nkeep);

/* A layer's file system with this device is mounted now; @sign tells it from others (mount/sign.h).
 */
void slots_mounted(struct slots *t, uint64_t dev, uint64_t sign);
/* It is not any more. */
void slots_unmounted(struct slots *t, uint64_t dev);

/* --- keeper and anchor --- */

/*
 * A new keeper (@state SLOT_DENYING) or a new anchor (SLOT_BURYING): what the one before it had
 * begun to deny is denied.
 */
void slots_deny_again(struct slots *t, const int group_fd[2], enum slot_state state);
/*
 * Keeper, and an engine without one: adds @tick_ms to every slot that waits for a source and denies
 * with EIO those over @deadline_ms; none when that is DEADLINE_NEVER.
 */
unsigned slots_enforce(struct slots *t, const int group_fd[2], uint32_t tick_ms,
		       uint32_t deadline_ms);
/*
 * Keeper: slots that have waited for @waited_ms or more and whose process is gone are denied. With
 * no deadline nothing else would ever take them back.
 */
void slots_deny_gone(struct slots *t, const int group_fd[2], uint32_t waited_ms);
/*
 * Anchor: the engine has crashed: a death for each slot in hand; denies with EIO at the third. One
 * that was killed (SIGKILL) counts for less. Mostly that had to do with somebody else, a person or
 * the machine's memory, and no reader may fail for being in hand; but an event that makes every
 * engine ask for all the memory there is must come to its end, too.
 */
#define SLOT_DEATH_CRASHED 4
#define SLOT_DEATH_KILLED  1
#define SLOT_DEATHS_MAX    (3 * SLOT_DEATH_CRASHED)
unsigned slots_engine_died(struct slots *t, const int group_fd[2]);
unsigned slots_engine_killed(struct slots *t, const int group_fd[2]);

/*
 * Keeper with no engine left and none to come, or an engine that knows no layer: exec and open
 * events are allowed, for they read nothing by themselves. Who reads content waits.
 */
void slots_allow_exec(struct slots *t, const int group_fd[2]);

unsigned slots_waiting(const struct slots *t); /* slots that are not FREE */

#endif
