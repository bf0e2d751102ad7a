/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_BASE_ERR_H
#define OCI_BASE_ERR_H

/*
 * An error as a person will read it. It lives on the caller's stack, never allocates, and is
 * filled by whoever finds the failure; every layer above may put its own context in front.
 * Only a program's main function or its event loop prints it.
 *
 * Every function that takes a `struct err *e` accepts NULL there.
 */

#define ERR_TEXT_MAX 512

struct err {
	int code;                /* negative errno; 0 while nothing has failed */
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
 * Puts context in front of a message that is already there ("context: message"). Returns e->code,
 * or @code when @e is NULL. Text that no longer fits is cut at the end.
 */
int err_wrap(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The words for a negative or positive errno. Thread-safe; the string is static. */
const char *err_words(int code);

#endif
