/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/err.h"

#include <errno.h>
#include <stdarg.h>
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

/* Stores a finished message. @text may not be e->text: callers build it in a buffer of their own.
 */
static void store(struct err *e, int code, char *text)
{
	make_one_line(text);
	e->code = code;
	snprintf(e->text, sizeof(e->text), "%s", text[0] ? text : err_words(code));
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

/* "context: words", or the words alone when there is no context. */
static void append_words(char text[ERR_TEXT_MAX], const char *words)
{
	if (text[0])
		append(text, ": ");
	append(text, words);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	code = failure_code(code);
	if (!e)
		return code;
	va_start(ap, fmt);
	format(text, fmt, ap);
	va_end(ap);
	store(e, code, text);
	return code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	code = failure_code(code);
	if (!e)
		return code;
	va_start(ap, fmt);
	format(text, fmt, ap);
	va_end(ap);
	append_words(text, err_words(code));
	store(e, code, text);
	return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	if (!e)
		return failure_code(code);
	if (e->code == 0)
		e->code = failure_code(code);
	va_start(ap, fmt);
	format(text, fmt, ap);
	va_end(ap);
	append_words(text, e->text[0] ? e->text : err_words(e->code));
	store(e, e->code, text);
	return e->code;
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
