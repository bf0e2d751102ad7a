/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_ERR_H
#define OCI_BASE_ERR_H

#include <stddef.h>
#include <stdint.h>

/*
 * An error as a person will read it. It lives on the caller's stack, never allocates, and is
 * filled by whoever finds the failure; every layer above may put its own context in front.
 * Only a program's main function or its event loop prints it.
 *
 * Every function that takes a `struct err *e` accepts NULL there.
 */

#define ERR_TEXT_MAX  512
#define ERR_LINKS_MAX 8 /* deeper than any chain seen; what is further out is one link then */

/*
 * Where the text of an error was put together: "image: layer: No such file" are three links. The
 * first begins at 0, a next one behind the ": " that ends the one before. It has no pointers, so
 * that it can travel between processes beside the text.
 */
struct err_links {
	uint16_t n;                     /* entries of `at` */
	uint16_t at[ERR_LINKS_MAX - 1]; /* where the second link begins, the third, ... */
	uint16_t cause;                 /* the errno whose words the last link is; 0: its own */
};

struct err {
	int code;                /* negative errno; 0 while nothing has failed */
	struct err_links links;  /* of the text */
	char text[ERR_TEXT_MAX]; /* one line, no trailing newline, never the empty string on failure
				  */
};

#define ERR_INIT                                                                                   \
	{                                                                                          \
		.code = 0, .text = ""                                                              \
	}

/*
 * Records a failure. @code is a negative errno. The text is the whole message: name the input it
 * is about and, where that is known, what to do. Returns @code, so that callers can
 * `return err_set(e, -EINVAL, ...)`.
 */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Like err_set(), and appends ": " and the words for the errno. */
int err_errno(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Puts context in front of a message that is already there ("context: message"), unless it says
 * the same already. Returns e->code, or @code when @e is NULL. Text that no longer fits is cut at
 * the end.
 */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Records a failure that was worded elsewhere: in another struct err, or in another process, which
 * need not be trusted. @text ends within ERR_TEXT_MAX bytes; when it is empty it is the words for
 * @code.
 */
int err_take(struct err *e, int code, const char *text, const struct err_links *links);

/* How many links the text has: 0 while nothing has failed. */
size_t err_nlinks(const struct err *e);
/* Link @i, 0 the outermost, without the ": " behind it. @out holds ERR_TEXT_MAX; returns @out. */
const char *err_link(const struct err *e, size_t i, char *out);

/* The words for a negative or positive errno. Thread-safe; the string is static. */
const char *err_words(int code);
/* "ENOENT"; NULL where there is no name. */
const char *err_name(int code);

#endif
