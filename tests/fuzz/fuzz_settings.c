/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/log.h"
#include "plugin/settings.h"

/* What every process relies on without asking. */
static void check(const struct settings *s)
{
	if (s->deadline_ms == 0 || s->log_level < LOG_ERROR || s->log_level > LOG_DEBUG ||
	    !memchr(s->group, 0, sizeof(s->group)))
		abort();
}

static void numbers(const char *text)
{
	uint64_t v = 0, again = 0;
	char plain[24];

	if (parse_size(text, &v) == 0) {
		snprintf(plain, sizeof(plain), "%llu", (unsigned long long)v);
		if (parse_size(plain, &again) < 0 || again != v)
			abort();
	}
	if (parse_time_ms(text, &v) == 0 && v % 1000 != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A tarn.conf: all of it counts or nothing, and why is said with its line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("tarn.conf", MFD_CLOEXEC);
	_cleanup_free_ char *text = strndup((const char *)data, size);
	struct settings s, before;
	struct err e = ERR_INIT;
	char path[32];

	if (fd < 0 || !text || fd_write_full(fd, data, size) < 0)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(&s, 0, sizeof(s));
	settings_default(&s);
	memcpy(&before, &s, sizeof(s));
	if (settings_load(path, &s, &e) < 0) {
		if (memcmp(&before, &s, sizeof(s)) != 0 || !*e.text || strchr(e.text, '\n'))
			abort();
	}
	check(&s);
	numbers(text);
	if (settings_reread(path, 0, &s, NULL) == 0)
		check(&s);
	return 0;
}
