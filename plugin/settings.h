/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_SETTINGS_H
#define PLUGIN_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "oci/base/limits.h"

struct err;

#define DEADLINE_NEVER UINT32_MAX /* of deadline_ms: readers wait until the source is back */
#define DEADLINE_MS    30000      /* the default */

#define GROUP_MAX 32 /* a group's name, with its NUL: useradd(8) takes no longer one */

/*
 * tarn.conf(5): lines of `key = value`, '#' starts a comment. SIGHUP reads the file again; keys
 * marked (start) count only at start. Plain data: it lives in the memory the keeper and the
 * engine share, so that both see a reread at once.
 */
struct settings {
	uint32_t deadline_ms;   /* fault.deadline      30 s: then the reader gets EIO; or NEVER */
	uint32_t warn_ms;       /* fault.warn          10 s: a longer wait is logged; 0: none is */
	uint64_t exec_fill_max; /* exec.fill_max       64M: larger executables come on demand */
	uint32_t exec_wait_ms;  /* exec.wait           10 s */
	uint32_t readahead;     /* fill.readahead      4M: bytes ahead of a sequential reader */
	uint32_t fetchers;      /* fill.fetchers       (start) 0 = twice the CPUs, at least 4 */
	uint32_t erofs_ra_kb;   /* mount.readahead     512K, read-ahead of the EROFS mounts */
	uint32_t connect_timeout_ms; /* http.connect_timeout 10 s */
	uint32_t stall_timeout_ms;   /* http.stall_timeout   15 s */
	uint32_t check_ms;     /* http.check           1 h: are blobs still there? 0: not asked */
	uint64_t cache_max;    /* cache.max           0: content may fill the file system */
	uint64_t cache_low;    /* cache.low           0: nine tenths of cache.max */
	char group[GROUP_MAX]; /* socket.group        (start) "" = root only */
	int log_level;         /* log.level           error | warn | info | debug */
};

void settings_default(struct settings *s);

/* What is worth waiting for where nobody reads: the deadline, or its default if there is none. */
static inline uint64_t settings_patience_ms(const struct settings *s)
{
	return s->deadline_ms == DEADLINE_NEVER ? DEADLINE_MS : s->deadline_ms;
}

/* Reads @path over the defaults. -EINVAL names file, line and key; @s is untouched on failure. */
int settings_load(const char *path, struct settings *s, struct err *e);
/*
 * What counts at a start: the defaults, what @path says, unless NULL, and -q (@verbose < 0) or -v
 * (> 0), which win over log.level. @s is untouched on failure.
 */
int settings_read(const char *path, int verbose, struct settings *s, struct err *e);
/* The same later: keys marked (start) stay as @s has them, for engines started later too. */
int settings_reread(const char *path, int verbose, struct settings *s, struct err *e);

/* "4M", "512K", "10G" (binary); "30", "30s", "5m", "2h", "1d" → ms. -EINVAL. */
int parse_size(const char *text, uint64_t *ret);
int parse_time_ms(const char *text, uint64_t *ret);

#endif
