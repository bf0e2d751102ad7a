/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "oci/base/limits.h"
#include "plugin/cli/show.h"
#include "plugin/loop.h"

#define LINES_MAX  (LIMIT_LAYERS + 8) /* an image's layers and what goes before them */
#define BAR        24
#define TEXT_WIDTH 25
#define REDRAW_MS  80

/* What is drawn, the last line lowest. The command line has one thread. */
static struct line {
	char text[96];
	int64_t done, total;
	bool written; /* not on a terminal: its one line is out */
} lines[LINES_MAX];
static size_t nlines, drawn;
static uint64_t drawn_ms;

static struct line *line_of(const char *text)
{
	char cut[sizeof(lines[0].text)];

	snprintf(cut, sizeof(cut), "%s", text);
	for (size_t i = 0; i < nlines; i++)
		if (strcmp(lines[i].text, cut) == 0)
			return &lines[i];
	if (nlines == LINES_MAX)
		return NULL;
	lines[nlines] = (struct line){.total = -1};
	snprintf(lines[nlines].text, sizeof(lines[nlines].text), "%s", cut);
	return &lines[nlines++];
}

static void draw_line(const struct line *l)
{
	int full = l->total > 0 && l->done <= l->total ? (int)(l->done * BAR / l->total) : BAR;
	char done[SHOW_MAX], total[SHOW_MAX], bar[BAR + 1];

	memset(bar, '.', BAR);
	memset(bar, '#', (size_t)full);
	bar[BAR] = '\0';
	if (l->total > 0)
		/* "layer sha256:" and the first digits of a digest. */
		fprintf(stderr, "\r\033[K%-*.*s [%s] %7s of %s\n", TEXT_WIDTH, TEXT_WIDTH, l->text,
			bar, show_size((uint64_t)l->done, done),
			show_size((uint64_t)l->total, total));
	else
		fprintf(stderr, "\r\033[K%s\n", l->text);
}

/* Lines above the terminal's top cannot be reached any more: only the last ones are redrawn. */
static size_t visible(void)
{
	struct winsize ws = {0};
	size_t rows = 24;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 1)
		rows = ws.ws_row;
	return nlines < rows - 1 ? nlines : rows - 1;
}

static void draw(bool now)
{
	size_t n = visible();

	if (!now && clock_ms() - drawn_ms < REDRAW_MS)
		return;
	drawn_ms = clock_ms();
	if (drawn > 0)
		fprintf(stderr, "\033[%zuA", drawn < n ? drawn : n);
	for (size_t i = nlines - n; i < nlines; i++)
		draw_line(&lines[i]);
	drawn = n;
	fflush(stderr);
}

void show_progress(const char *text, int64_t done, int64_t total)
{
	struct line *l = line_of(text);
	char size[SHOW_MAX];

	if (!l || done < 0)
		return;
	l->done = done;
	l->total = total;
	if (isatty(STDERR_FILENO)) {
		draw(total > 0 && done >= total);
		return;
	}
	if (l->written || (total > 0 && done < total))
		return;
	l->written = true;
	if (total > 0)
		fprintf(stderr, "%s %s\n", text, show_size((uint64_t)total, size));
	else
		fprintf(stderr, "%s\n", text);
}

void show_flush(void)
{
	if (drawn > 0)
		draw(true);
	nlines = drawn = 0;
}
