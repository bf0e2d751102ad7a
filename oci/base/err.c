/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A failure never carries a code that would read as success to the caller. */
static int failure_code(int code)
{
	if (code == 0)
		return -EIO;
	return code < 0 ? code : -code;
}

/*
 * Messages quote names and answers from outside. One line each, and nothing in them may drive
 * the terminal they are printed on.
 */
static void make_one_line(char *text)
{
	size_t len = strlen(text);

	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		text[--len] = '\0';
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n' || text[i] == '\r' || text[i] == '\t')
			text[i] = ' ';
		else if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
	}
}

/*
 * Stores a finished message. @text may not be e->text: callers build it in a buffer of their own.
 * Links that were cut off with the end of the text are none.
 */
static void store(struct err *e, int code, char *text, const struct err_links *links)
{
	size_t len;

	make_one_line(text);
	len = strlen(text);
	e->code = code;
	e->links = *links;
	while (e->links.n > 0 && e->links.at[e->links.n - 1] >= len) {
		e->links.n--;
		e->links.cause = 0;
	}
	if (len == 0)
		e->links.cause = (uint16_t)-code;
	snprintf(e->text, sizeof(e->text), "%s", len ? text : err_words(code));
}

/* Not inlined: there gcc's UBSan makes -Wformat-truncation see a null format. */
static void __attribute__((format(printf, 2, 0), noinline))
format(char text[ERR_TEXT_MAX], const char *fmt, va_list ap)
{
	vsnprintf(text, ERR_TEXT_MAX, fmt, ap);
}

static void append(char text[ERR_TEXT_MAX], const char *more)
{
	size_t len = strlen(text);
	size_t n = strnlen(more, ERR_TEXT_MAX - 1 - len);

	memcpy(text + len, more, n);
	text[len + n] = '\0';
}

/* "context: words", or the words alone when there is no context. Returns where they begin. */
static size_t append_words(char text[ERR_TEXT_MAX], const char *words)
{
	size_t at;

	if (text[0])
		append(text, ": ");
	at = strlen(text);
	append(text, words);
	return at;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	const struct err_links links = {.n = 0};
	char text[ERR_TEXT_MAX];
	va_list ap;

	code = failure_code(code);
	if (!e)
		return code;
	va_start(ap, fmt);
	format(text, fmt, ap);
	va_end(ap);
	store(e, code, text, &links);
	return code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
	struct err_links links = {.n = 0};
	char text[ERR_TEXT_MAX];
	va_list ap;

	code = failure_code(code);
	if (!e)
		return code;
	va_start(ap, fmt);
	format(text, fmt, ap);
	va_end(ap);
	links.at[0] = (uint16_t)append_words(text, err_words(code));
	links.n = links.at[0] > 0;
	links.cause = (uint16_t)-code;
	store(e, code, text, &links);
	return code;
}

/* Whether a link is @context, or begins with it. */
static bool says(const struct err *e, const char *context)
{
	size_t len = strlen(context);

	for (size_t i = 0; i < err_nlinks(e); i++) {
		const char *p = e->text + (i ? e->links.at[i - 1] : 0);

		if (strncmp(p, context, len) == 0 &&
		    (p[len] == '\0' || strncmp(p + len, ": ", 2) == 0))
			return true;
	}
	return false;
}

/* The links of @old behind a new one in front, which is @shift bytes long with its ": ". */
static struct err_links links_behind(const struct err_links *old, size_t shift)
{
	struct err_links links = {.cause = old->cause};

	/* No room: the two outermost become one. */
	if (old->n < ERR_LINKS_MAX - 1)
		links.at[links.n++] = (uint16_t)shift;
	for (uint16_t i = 0; i < old->n; i++)
		links.at[links.n++] = (uint16_t)(old->at[i] + shift);
	return links;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	struct err_links links;
	char text[ERR_TEXT_MAX];
	va_list ap;
	size_t at;

	if (!e)
		return failure_code(code);
	if (e->code == 0)
		e->code = failure_code(code);
	va_start(ap, fmt);
	format(text, fmt, ap);
	va_end(ap);
	make_one_line(text);
	if (!e->text[0])
		e->links = (struct err_links){.cause = (uint16_t)-e->code};
	if (e->text[0] && (!text[0] || says(e, text)))
		return e->code;
	at = append_words(text, e->text[0] ? e->text : err_words(e->code));
	links = at > 0 ? links_behind(&e->links, at) : e->links;
	store(e, e->code, text, &links);
	return e->code;
}

/* What can be true: they begin behind each other and each behind a ": ", as far as @text goes. */
static bool links_valid(const struct err_links *links, const char *text)
{
	size_t len = strlen(text), before = 2;

	if (links->n > ERR_LINKS_MAX - 1)
		return false;
	for (uint16_t i = 0; i < links->n; i++) {
		size_t at = links->at[i];

		if (at <= before || (at < len && strncmp(text + at - 2, ": ", 2) != 0))
			return false;
		before = at + 2;
	}
	return true;
}

int err_take(struct err *e, int code, const char *text, const struct err_links *links)
{
	const struct err_links none = {.n = 0};
	char own[ERR_TEXT_MAX];

	code = failure_code(code);
	if (!e)
		return code;
	snprintf(own, sizeof(own), "%.*s", ERR_TEXT_MAX - 1, text);
	store(e, code, own, links_valid(links, own) ? links : &none);
	return code;
}

size_t err_nlinks(const struct err *e)
{
	return e->text[0] ? e->links.n + 1u : 0;
}

const char *err_link(const struct err *e, size_t i, char *out)
{
	size_t from = i ? e->links.at[i - 1] : 0;
	size_t to = i < e->links.n ? e->links.at[i] - 2u : strlen(e->text);

	snprintf(out, ERR_TEXT_MAX, "%.*s", (int)(to - from), e->text + from);
	return out;
}

const char *err_words(int code)
{
	const char *words;

	if (code < 0)
		code = -code;
#ifdef __GLIBC__
	/* strerror() may return a buffer of the thread and speaks the user's language. */
	words = strerrordesc_np(code);
#else
	words = strerror(code);
#endif
	return words ? words : "Unknown error";
}

const char *err_name(int code)
{
#ifdef __GLIBC__
	return code ? strerrorname_np(code < 0 ? -code : code) : NULL;
#else
	(void)code;
	return NULL;
#endif
}
