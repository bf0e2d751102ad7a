/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char process_name[32] = "tarnd";
static int own_level = LOG_INFO;
static const int *max_level = &own_level; /* borrowed, maybe shared with other processes */

void log_init(const char *process, enum log_level level)
{
	snprintf(process_name, sizeof(process_name), "%s", process);
	own_level = (int)level;
	max_level = &own_level;
}

void log_follow(const int *level)
{
	max_level = level;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const char *const word[] = {"error: ", "warning: ", "", "debug: "};
	char line[1024];
	va_list ap;
	int n, m;

	if ((int)level > __atomic_load_n(max_level, __ATOMIC_RELAXED))
		return;
	n = snprintf(line, sizeof(line), "%s: %s", process_name, word[level]);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n += m;
	if ((size_t)n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	/* What a registry said may be in it: it cannot make lines of its own, nor steer a terminal.
	 */
	for (int i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	/* One write, so that lines of several processes do not mix; a lost line harms nobody. */
	(void)!write(STDERR_FILENO, line, (size_t)n);
}
