/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLUGIN_CLI_SHOW_H
#define PLUGIN_CLI_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct json;

/* What people and scripts see on the terminal: sizes, tables, progress. */

#define SHOW_MAX 24

/* "0", "512", "12.3K", "1.0G" (binary, as SIZE is given); returns @out. */
const char *show_size(uint64_t bytes, char out[SHOW_MAX]);
/* "3s", "5m 12s", "2h 5m", "4d 2h"; returns @out. */
const char *show_time(uint64_t seconds, char out[SHOW_MAX]);
/* "sha256:" and 12 hex digits, of a digest; other text is only cut. Returns @out. */
const char *show_digest(const char *text, char out[SHOW_MAX]);

/* A member of an object as text for a table: "-" where it is missing or null. */
const char *show_str(const struct json *v, const char *key);
uint64_t show_int(const struct json *v, const char *key);

/*
 * Appends @text with '?' for control characters and for what is not UTF-8: names and reasons come
 * from images, processes and registries, and nothing in them may steer the terminal.
 */
void show_clean(struct buf *b, const char *text);

/*
 * A table that is printed when it is complete, its columns as wide as they need to be. @head
 * names the columns, separated by '|'; a name that begins with '>' makes its column right
 * aligned. Cells come one after another, row by row. Cells are cleaned.
 */
struct table;
struct table *table_new(const char *head); /* NULL when out of memory; the rest take it */
void table_cell(struct table *t, const char *text);
void table_size(struct table *t, uint64_t bytes);
/* Prints it on stdout, with its head, when it has rows. */
void table_print(const struct table *t);
struct table *table_free(struct table *t);

static inline void table_freep(struct table **t)
{
	table_free(*t);
}

/*
 * Progress on stderr. On a terminal each @text has a line of its own that is redrawn with a bar;
 * elsewhere a line is written once, when @done has reached @total.
 */
void show_progress(const char *text, int64_t done, int64_t total);
/* What is written next stands below the progress lines. */
void show_flush(void);

#endif
