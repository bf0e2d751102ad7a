/* SPDX-License-Identifier: Apache-2.0 */
/* Readers that wait for long: one line each, before anybody has to ask. */
#include <inttypes.h>
#include <stdio.h>

#include "plugin/ctl/proc.h"
#include "plugin/engine.h"
#include "plugin/fault/fault_impl.h"
#include "plugin/fault/slots.h"
#include "plugin/fill/flight.h"
#include "plugin/log.h"
#include "plugin/loop.h"
#include "plugin/store/layer.h"

/* Of a thousand readers that began to wait together so many are named, and the rest counted. */
#define LINES_MAX 8

bool fault_why(const struct engine *en, uint32_t i, uint32_t *ret_span, char *out, size_t size)
{
	const struct fault *f = en->fault;
	const struct wait *w = &f->wait[i];

	if (atomic_load(&f->slots->s[i].state) != SLOT_WAITING || !w->layer)
		return false;
	if (w->busy) {
		*ret_span = w->first;
		snprintf(out, size, "an eviction holds it back");
	} else {
		flight_why(w->layer, w->first, w->last, ret_span, out, size);
	}
	return true;
}

static void tell_one(const struct fault *f, uint32_t i)
{
	const struct slot *s = &f->slots->s[i];
	const struct wait *w = &f->wait[i];
	char hex[DIGEST_HEX + 1], comm[PROC_COMM], why[FLIGHT_WHY];
	uint64_t waited_s = (clock_ns() - s->since_ns) / 1000000000u;
	uint32_t span;

	if (!fault_why(f->en, i, &span, why, sizeof(why)))
		return;
	proc_comm(s->pid, comm);
	log_warn("process %" PRId32 " (%s) has waited for %" PRIu64
		 " s for layer %.12s span %" PRIu32 ": %s",
		 s->pid, comm, waited_s, digest_hex(&w->layer->diff_id, hex), span, why);
}

void fault_tell_hung(struct fault *f)
{
	uint32_t warn_ms = f->slots->settings.warn_ms, told = 0, more = 0;
	uint64_t now = clock_ns();

	for (uint32_t k = 0; warn_ms > 0 && k < f->nactive; k++) {
		const struct slot *s = &f->slots->s[f->active[k]];
		struct wait *w = &f->wait[f->active[k]];

		if (w->told || !w->layer || w->busy || atomic_load(&s->state) != SLOT_WAITING ||
		    now - s->since_ns < warn_ms * UINT64_C(1000000))
			continue;
		w->told = true;
		if (told++ < LINES_MAX)
			tell_one(f, f->active[k]);
		else
			more++;
	}
	if (more > 0)
		log_warn("%" PRIu32 " more processes have waited as long", more);
}
