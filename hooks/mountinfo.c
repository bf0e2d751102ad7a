/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"

/* Of a line: id parent dev root point options optional... - fstype source options */
#define FIXED_FIELDS 6

/* Cuts the next field off *rest, NULL at the end. */
static char *next_field(char **rest)
{
	char *p = *rest, *end;

	if (!p || !*p)
		return NULL;
	end = strchr(p, ' ');
	if (end)
		*end++ = '\0';
	*rest = end;
	return p;
}

static bool is_octal(const char *p)
{
	for (int i = 0; i < 3; i++)
		if (p[i] < '0' || p[i] > '7')
			return false;
	return true;
}

/* The kernel writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (*s == '\\' && is_octal(s + 1)) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

static bool parse_id(const char *text, int *ret)
{
	char *end;
	long v = strtol(text, &end, 10);

	if (end == text || *end || v < 0 || v > INT32_MAX)
		return false;
	*ret = (int)v;
	return true;
}

static bool parse_line(char *line, struct mountinfo *m)
{
	char *field[FIXED_FIELDS], *more;

	for (int i = 0; i < FIXED_FIELDS; i++) {
		field[i] = next_field(&line);
		if (!field[i])
			return false;
	}
	m->shared = false;
	while ((more = next_field(&line)) && strcmp(more, "-") != 0)
		if (strncmp(more, "shared:", 7) == 0)
			m->shared = true;
	m->fstype = more ? next_field(&line) : NULL;
	(void)next_field(&line); /* the source */
	m->super = next_field(&line);
	unescape(field[3]);
	unescape(field[4]);
	m->dev = field[2];
	m->root = field[3];
	m->point = field[4];
	m->options = field[5];
	if (!m->super)
		m->super = "";
	return m->fstype && parse_id(field[0], &m->id) && parse_id(field[1], &m->parent);
}

static int parse(struct mounttab *t)
{
	size_t lines = 0;
	char *next;

	for (const char *p = t->text; (p = strchr(p, '\n')); p++)
		lines++;
	t->v = calloc(lines + 1, sizeof(*t->v));
	if (!t->v)
		return -ENOMEM;
	for (char *line = t->text; *line; line = next) {
		next = strchr(line, '\n');
		if (!next)
			return -EBADMSG;
		*next++ = '\0';
		if (!parse_line(line, &t->v[t->n++]))
			return -EBADMSG;
	}
	return 0;
}

static int read_text(int proc, char **ret)
{
	_cleanup_fd_ int fd = openat(proc, "mountinfo", O_RDONLY | O_CLOEXEC);
	_cleanup_buf_ struct buf b = {0};
	const char *text;
	int r;

	if (fd < 0)
		return -errno;
	buf_init(&b, LIMIT_MOUNTINFO);
	r = fd_read_all(fd, &b);
	text = r == 0 ? buf_cstr(&b) : NULL;
	if (!text)
		return r < 0 ? r : -ENOMEM;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

int mounttab_read(int proc, struct mounttab *ret, struct err *e)
{
	struct mounttab t = {0};
	int r = read_text(proc, &t.text);

	if (r == 0)
		r = parse(&t);
	if (r < 0) {
		mounttab_free(&t);
		return err_errno(e, r, "reading mountinfo");
	}
	*ret = t;
	return 0;
}

void mounttab_free(struct mounttab *t)
{
	free(t->v);
	free(t->text);
	*t = (struct mounttab){0};
}

const struct mountinfo *mounttab_by_id(const struct mounttab *t, int id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].id == id)
			return &t->v[i];
	return NULL;
}

static bool is_covered(const struct mounttab *t, const struct mountinfo *m)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].parent == m->id && strcmp(t->v[i].point, m->point) == 0)
			return true;
	return false;
}

/* Of mounts at one place each has the one below for its parent; the order of lines says nothing. */
const struct mountinfo *mounttab_top(const struct mounttab *t, const char *point)
{
	const struct mountinfo *top = NULL;

	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->v[i].point, point) == 0 && !is_covered(t, &t->v[i]))
			top = &t->v[i];
	return top;
}

bool mounttab_within(const struct mounttab *t, const struct mountinfo *m, int id)
{
	/* As many steps as there are mounts: a table that was read in pieces may have a loop. */
	for (size_t i = 0; m && i <= t->n; i++) {
		if (m->id == id)
			return true;
		m = m->parent == m->id ? NULL : mounttab_by_id(t, m->parent);
	}
	return false;
}
