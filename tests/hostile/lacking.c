/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tarnd-lacking: a daemon whose guardian and keepers have one capability less than plugin/isolate.c
 * gives them, that which $TARN_LACKS names ("cap_lease"). "guardian": they have all, but the
 * guardian loses its own when tarnd is ready, and with them those of the next keeper.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>

#include "plugin/isolate.h"
#include "plugin/notify.h"

static int set_and_free(cap_t caps)
{
	int r = caps ? cap_set_proc(caps) : -1;

	cap_free(caps);
	return r;
}

static int drop(cap_value_t cap)
{
	cap_t caps = cap_get_proc();

	if (caps && (cap_set_flag(caps, CAP_EFFECTIVE, 1, &cap, CAP_CLEAR) < 0 ||
		     cap_set_flag(caps, CAP_PERMITTED, 1, &cap, CAP_CLEAR) < 0)) {
		cap_free(caps);
		return -1;
	}
	return set_and_free(caps);
}

int __real_isolate_keeper(struct err *e);
int __wrap_isolate_keeper(struct err *e);
int __wrap_isolate_keeper(struct err *e)
{
	static bool done; /* by the guardian; keepers have this from it */
	const char *lacks = getenv("TARN_LACKS");
	cap_value_t cap;
	int r;

	if (done)
		return 0;
	r = __real_isolate_keeper(e);
	if (r < 0 || !lacks || !strcmp(lacks, "guardian"))
		return r;
	if (cap_from_name(lacks, &cap) < 0 || drop(cap) < 0)
		abort();
	done = true;
	return 0;
}

void __real_notify_systemd(const char *state);
void __wrap_notify_systemd(const char *state);
void __wrap_notify_systemd(const char *state)
{
	const char *lacks = getenv("TARN_LACKS");

	__real_notify_systemd(state);
	if (lacks && !strcmp(lacks, "guardian") && !strcmp(state, "READY=1") &&
	    set_and_free(cap_init()) < 0)
		abort();
}
