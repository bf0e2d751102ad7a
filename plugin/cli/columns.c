/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "plugin/cli/show.h"

#define COLUMNS_MAX 12
#define TABLE_MAX   (64u << 20) /* a million rows */

struct table {
	struct buf text;         /* the cells, each with its NUL */
	size_t ncolumns, ncells; /* with the head's */
	bool right[COLUMNS_MAX];
	size_t width[COLUMNS_MAX]; /* columns on the terminal */
};

/* Columns on the terminal, taken for one a character. */
static size_t width_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

void table_cell(struct table *t, const char *text)
{
	size_t start, column, width;

	if (!t)
		return;
	start = t->text.len;
	show_clean(&t->text, text);
	buf_put_u8(&t->text, 0);
	if (t->text.failed)
		return;
	column = t->ncells++ % t->ncolumns;
	width = width_of((const char *)t->text.data + start);
	if (width > t->width[column])
		t->width[column] = width;
}

void table_size(struct table *t, uint64_t bytes)
{
	char text[SHOW_MAX];

	table_cell(t, show_size(bytes, text));
}

struct table *table_new(const char *head)
{
	struct table *t = calloc(1, sizeof(*t));
	char name[64];

	if (!t)
		return NULL;
	buf_init(&t->text, TABLE_MAX);
	for (const char *p = head; p && t->ncolumns < COLUMNS_MAX; p = strchr(p, '|')) {
		p += *p == '|';
		t->right[t->ncolumns++] = *p == '>';
	}
	for (const char *p = head; p; p = strchr(p, '|')) {
		p += *p == '|';
		p += *p == '>';
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(p, "|"), p);
		table_cell(t, name);
	}
	return t;
}

void table_print(const struct table *t)
{
	const char *cell;

	if (!t || t->text.failed || t->ncells <= t->ncolumns)
		return;
	cell = (const char *)t->text.data;
	for (size_t i = 0; i < t->ncells; i++) {
		size_t c = i % t->ncolumns, pad = t->width[c] - width_of(cell);
		bool last = c + 1 == t->ncolumns;

		printf("%*s%s", t->right[c] ? (int)pad : 0, "", cell);
		printf("%*s%s", t->right[c] || last ? 0 : (int)pad, "", last ? "\n" : "  ");
		cell += strlen(cell) + 1;
	}
}

struct table *table_free(struct table *t)
{
	if (t)
		buf_free(&t->text);
	free(t);
	return NULL;
}
