/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/log.h"

enum kind {
	KIND_TIME_MS,
	KIND_DEADLINE,
	KIND_SIZE,
	KIND_SIZE32,
	KIND_KIB,
	KIND_COUNT,
	KIND_TEXT,
	KIND_LEVEL
};

static const struct key {
	const char *name;
	enum kind kind;
	size_t offset;
} keys[] = {
	{"fault.deadline", KIND_DEADLINE, offsetof(struct settings, deadline_ms)},
	{"fault.warn", KIND_TIME_MS, offsetof(struct settings, warn_ms)},
	{"exec.fill_max", KIND_SIZE, offsetof(struct settings, exec_fill_max)},
	{"exec.wait", KIND_TIME_MS, offsetof(struct settings, exec_wait_ms)},
	{"cache.max", KIND_SIZE, offsetof(struct settings, cache_max)},
	{"cache.low", KIND_SIZE, offsetof(struct settings, cache_low)},
	{"fill.readahead", KIND_SIZE32, offsetof(struct settings, readahead)},
	{"fill.fetchers", KIND_COUNT, offsetof(struct settings, fetchers)},
	{"mount.readahead", KIND_KIB, offsetof(struct settings, erofs_ra_kb)},
	{"http.connect_timeout", KIND_TIME_MS, offsetof(struct settings, connect_timeout_ms)},
	{"http.stall_timeout", KIND_TIME_MS, offsetof(struct settings, stall_timeout_ms)},
	{"http.check", KIND_TIME_MS, offsetof(struct settings, check_ms)},
	{"socket.group", KIND_TEXT, offsetof(struct settings, group)},
	{"log.level", KIND_LEVEL, offsetof(struct settings, log_level)},
};

#define COUNT_MAX 256 /* fetchers: more processes than any machine has use for */

void settings_default(struct settings *s)
{
	*s = (struct settings){
		.deadline_ms = DEADLINE_MS,
		.warn_ms = 10000,
		.exec_fill_max = 64u << 20,
		.exec_wait_ms = 10000,
		.readahead = 4u << 20,
		.fetchers = 0,
		.erofs_ra_kb = 512,
		.connect_timeout_ms = 10000,
		.stall_timeout_ms = 15000,
		.check_ms = 3600000,
		.log_level = LOG_INFO,
	};
}

/* A decimal number and the text behind it. */
static int parse_number(const char *text, uint64_t *ret, const char **rest)
{
	uint64_t v = 0;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++)
		if (!mul_ok(v, 10, &v) || !add_ok(v, (uint64_t)(*text - '0'), &v))
			return -EINVAL;
	*ret = v;
	*rest = text;
	return 0;
}

int parse_size(const char *text, uint64_t *ret)
{
	static const char unit[] = "KMGT";
	const char *rest, *u;
	uint64_t v;

	if (parse_number(text, &v, &rest) < 0)
		return -EINVAL;
	if (*rest) {
		u = strchr(unit, *rest);
		if (!u || rest[1] || !mul_ok(v, (uint64_t)1 << (10 * (u - unit + 1)), &v))
			return -EINVAL;
	}
	*ret = v;
	return 0;
}

int parse_time_ms(const char *text, uint64_t *ret)
{
	static const struct {
		char unit;
		uint64_t ms;
	} units[] = {
		{'\0', 1000}, {'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000},
	};
	const char *rest;
	uint64_t v;

	if (parse_number(text, &v, &rest) < 0 || (*rest && rest[1]))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (*rest == units[i].unit && mul_ok(v, units[i].ms, ret))
			return 0;
	return -EINVAL;
}

static int parse_level(const char *text, int *ret)
{
	static const char *const word[] = {"error", "warn", "info", "debug"};

	for (size_t i = 0; i < ARRAY_LEN(word); i++) {
		if (!strcmp(text, word[i])) {
			*ret = (int)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_u32(void *field, uint64_t v, uint64_t max)
{
	if (v > max)
		return -EINVAL;
	*(uint32_t *)field = (uint32_t)v;
	return 0;
}

static int set_key(struct settings *s, const struct key *k, const char *value)
{
	void *field = (char *)s + k->offset;
	uint64_t v = 0;

	switch (k->kind) {
	case KIND_DEADLINE: /* with none at all every reader that waits would get EIO */
		if (!strcmp(value, "never"))
			v = DEADLINE_NEVER;
		else if (parse_time_ms(value, &v) < 0 || v == 0 || v >= DEADLINE_NEVER)
			return -EINVAL;
		return set_u32(field, v, DEADLINE_NEVER);
	case KIND_TIME_MS:
		return parse_time_ms(value, &v) < 0 ? -EINVAL : set_u32(field, v, UINT32_MAX);
	case KIND_SIZE:
		return parse_size(value, field);
	case KIND_SIZE32:
		return parse_size(value, &v) < 0 ? -EINVAL : set_u32(field, v, 1u << 30);
	case KIND_KIB: /* 0: as the kernel has it */
		if (parse_size(value, &v) < 0 || v % 1024)
			return -EINVAL;
		return set_u32(field, v >> 10, 1u << 20);
	case KIND_COUNT:
		return parse_size(value, &v) < 0 ? -EINVAL : set_u32(field, v, COUNT_MAX);
	case KIND_TEXT:
		if (strlen(value) >= GROUP_MAX)
			return -EINVAL;
		snprintf(field, GROUP_MAX, "%s", value);
		return 0;
	case KIND_LEVEL:
		return parse_level(value, field);
	}
	return -EINVAL;
}

static char *trim(char *text)
{
	size_t n;

	while (isspace((unsigned char)*text))
		text++;
	for (n = strlen(text); n > 0 && isspace((unsigned char)text[n - 1]); n--)
		text[n - 1] = '\0';
	return text;
}

static int set_line(struct settings *s, char *line, struct err *e)
{
	char *hash = strchr(line, '#'), *eq, *name;

	if (hash)
		*hash = '\0';
	name = trim(line);
	if (!*name)
		return 0;
	eq = strchr(name, '=');
	if (!eq)
		return err_set(e, -EINVAL, "'%s' is not of the form key = value", name);
	*eq = '\0';
	name = trim(name);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strcmp(name, keys[i].name))
			continue;
		if (set_key(s, &keys[i], trim(eq + 1)) < 0)
			return err_set(e, -EINVAL, "'%s' is no value for %s", trim(eq + 1), name);
		return 0;
	}
	return err_set(e, -EINVAL, "there is no setting '%s'", name);
}

int settings_load(const char *path, struct settings *s, struct err *e)
{
	struct settings next = *s;
	_cleanup_buf_ struct buf text = {0};
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *line, *end;
	int r, number = 0;

	buf_init(&text, LIMIT_SETTINGS);
	if (fd < 0)
		return err_errno(e, -errno, "settings %s", path);
	r = fd_read_all(fd, &text);
	if (r < 0 || !buf_cstr(&text))
		return err_errno(e, r < 0 ? r : -ENOMEM, "settings %s", path);
	if (strlen((char *)text.data) != text.len)
		return err_set(e, -EINVAL, "settings %s: not a text file", path);
	for (line = (char *)text.data; line && *line; line = end) {
		end = strchr(line, '\n');
		if (end)
			*end++ = '\0';
		number++;
		r = set_line(&next, line, e);
		if (r < 0)
			return err_wrap(e, r, "settings %s, line %d", path, number);
	}
	*s = next;
	return 0;
}

int settings_read(const char *path, int verbose, struct settings *s, struct err *e)
{
	struct settings next;
	int r;

	settings_default(&next);
	r = path ? settings_load(path, &next, e) : 0;
	if (r < 0)
		return r;
	if (verbose)
		next.log_level = verbose > 0 ? LOG_DEBUG : LOG_ERROR;
	*s = next;
	return 0;
}

int settings_reread(const char *path, int verbose, struct settings *s, struct err *e)
{
	struct settings next;
	int r = settings_read(path, verbose, &next, e);

	if (r < 0)
		return r;
	next.fetchers = s->fetchers;
	memcpy(next.group, s->group, sizeof(next.group));
	*s = next;
	return 0;
}
