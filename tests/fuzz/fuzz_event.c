/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/fault/slots.h"
#include "plugin/uapi.h"

/* The number that samples name as their event's descriptor. */
#define EVENT_FD 777

static void have_event_fd(void)
{
	if (fcntl(EVENT_FD, F_GETFD) < 0 &&
	    dup3(open("/dev/null", O_RDONLY | O_CLOEXEC), EVENT_FD, O_CLOEXEC) < 0)
		abort();
}

/* The range is zeros, or a record of the event itself says so: behind its head, before its end. */
static void check_range(const struct slot *s, const struct fanotify_event_metadata *m)
{
	struct fan_range_record rec;

	if (s->off == 0 && s->count == 0)
		return;
	for (size_t at = sizeof(*m); at + sizeof(rec) <= m->event_len; at++) {
		memcpy(&rec, s->raw + at, sizeof(rec));
		if (rec.type == FAN_EVENT_INFO_TYPE_RANGE && rec.len >= sizeof(rec) &&
		    rec.offset == s->off && rec.count == s->count)
			return;
	}
	abort();
}

static void check(const struct slot *s, int r)
{
	struct fanotify_event_metadata m;
	struct stat st;

	memcpy(&m, s->raw, sizeof(m));
	/* Also what is refused is answered, by this number, and from this state. */
	if (atomic_load(&s->state) != SLOT_WAITING || s->fd != m.fd)
		abort();
	if (r < 0) {
		if (r != -EBADMSG)
			abort();
		return;
	}
	if (m.vers != FANOTIFY_METADATA_VERSION || m.event_len > SLOT_RAW ||
	    fstat(s->fd, &st) < 0 || s->dev != st.st_dev || s->ino != st.st_ino)
		abort();
	check_range(s, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What read(2) of a fanotify group left in a slot. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* In memory of its own, so that a sanitizer sees a read past the end. */
	struct slot *s = aligned_alloc(_Alignof(struct slot), sizeof(*s));

	if (!s)
		return 0;
	have_event_fd();
	memset(s, 0xa5, sizeof(*s));
	memset(s->raw, 0, sizeof(s->raw));
	memcpy(s->raw, data, size < sizeof(s->raw) ? size : sizeof(s->raw));
	atomic_store(&s->state, SLOT_READING);
	check(s, slot_parse(s));
	free(s);
	return 0;
}
