/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_FAULT_FAULT_IMPL_H
#define PLUGIN_FAULT_FAULT_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/base/limits.h"

/* Between fault.c (events, answers, time), content.c (reads of tars) and exec.c (exec and open). */

struct engine;
struct layer;
struct loop_io;
struct slots;

/* What the engine knows of a slot in WAITING, beside what the journal says. */
struct wait {
	struct layer *layer;  /* borrowed; NULL while no layer of that name is known */
	uint32_t first, last; /* spans it needs; content, and exec while it is filled */
	bool missed;          /* it could not be answered at once */
	bool busy;            /* held back by an eviction with --wait */
	bool told;            /* that it waits for long has been logged */
	bool noted;           /* that it is denied has been noted, or need not be */
	uint32_t at;          /* its place in active[] */
};

/* An explicit eviction: opens of these inodes are refused or held back. */
struct busy {
	struct layer *layer;  /* borrowed */
	const uint64_t *nids; /* borrowed, sorted */
	size_t n;
	bool wait;
	struct busy *next;
};

/* A read that was denied: one event, and those that followed it. */
struct denial {
	const struct layer *layer; /* only compared; NULL: none */
	int32_t pid;
	uint64_t off, end; /* of the tar */
	uint64_t at_ms;    /* clock_ms() of the last of them */
	bool told;         /* the application knows: the kernel asks for this no second time */
};
#define DENIALS 256

struct fault {
	struct engine *en;   /* borrowed */
	struct slots *slots; /* shared memory */
	struct loop_io *io[2];
	bool paused; /* no slot was free, or no descriptor */
	bool ticking;
	uint64_t told_ms; /* when the log last said so */
	struct busy *busy;
	struct denial denied[DENIALS];
	uint32_t ndenied; /* ever */
	uint32_t nactive;
	uint32_t active[LIMIT_SLOTS]; /* slots that wait, in no order */
	struct wait wait[LIMIT_SLOTS];
};

/* Answers slot @i and forgets it, unless the keeper is denying it at this moment. */
void fault_answer(struct fault *f, uint32_t i, uint32_t response);
/* Answers with an errno that the kernel takes (law 9). */
void fault_refuse(struct fault *f, uint32_t i, int err);
/* From the beginning: a slot that is new, or was held back. */
void fault_handle(struct fault *f, uint32_t i);

/* --- content.c --- */
bool fault_spans_present(const struct layer *l, uint32_t first, uint32_t last);
/* Slot @i is new and its layer known; or its spans are to be looked at again. */
void fault_new_content(struct fault *f, uint32_t i);
void fault_try_content(struct fault *f, uint32_t i);

/* --- again.c --- */
/* Slot @i, of which the layer is known, was denied or is about to be. */
void fault_note_denied(struct fault *f, uint32_t i);
/* The layer is going. */
void fault_forget_denied(struct fault *f, const struct layer *l);
/* Does slot @i, which is new, belong to a read that was denied just now? */
bool fault_is_again(struct fault *f, uint32_t i);

/* --- hung.c --- */
/* Logs who has begun to wait too long (fault.warn). */
void fault_tell_hung(struct fault *f);

/* --- exec.c --- */
void fault_new_exec(struct fault *f, uint32_t i);
void fault_try_exec(struct fault *f, uint32_t i);

#endif
