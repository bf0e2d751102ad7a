/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_OUTPUT_H
#define TESTS_UNIT_OUTPUT_H

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* What is written to a descriptor for a while. */
struct output {
	int fd;    /* owned; the file */
	int saved; /* owned; what it stands in for */
	int stands_for;
	char text[16384];
};

static inline void output_begin(struct output *o, int fd)
{
	fflush(NULL);
	o->stands_for = fd;
	o->saved = dup(fd);
	o->fd = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	assert_true(o->fd >= 0 && o->saved >= 0);
	dup2(o->fd, fd);
}

static inline const char *output_end(struct output *o)
{
	ssize_t n;

	fflush(NULL);
	dup2(o->saved, o->stands_for);
	close(o->saved);
	n = pread(o->fd, o->text, sizeof(o->text) - 1, 0);
	o->text[n > 0 ? n : 0] = '\0';
	close(o->fd);
	return o->text;
}

#endif
