/* SPDX-License-Identifier: Apache-2.0 */
/* link: -Wl,--wrap=openat */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hooks/mountinfo.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/ctl/proc.h"

static const uint8_t *input; /* what the file holds that is opened */
static size_t input_len;

int __wrap_openat(int dir, const char *name, int flags, ...);
int __wrap_openat(int dir, const char *name, int flags, ...)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || fd_write_full(fd, input, input_len) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		abort();
	return fd;
}

static void look(const struct mounttab *t)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct mountinfo *m = &t->v[i], *top = mounttab_top(t, m->point);

		if (!m->dev || !m->root || !m->options || !m->fstype || !m->super)
			abort();
		if (top && strcmp(top->point, m->point) != 0)
			abort();
		if (!mounttab_within(t, m, m->id) || !mounttab_by_id(t, m->id))
			abort();
		(void)mounttab_within(t, m, -1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the kernel says in words that containers choose: names of mounts and of control groups. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	struct mounttab t = {.v = NULL};
	char container[PROC_CONTAINER];
	struct err e = ERR_INIT;

	if (!text)
		return 0;
	memset(container, 'x', sizeof(container));
	cgroup_container(text, container);
	if (!memchr(container, 0, sizeof(container)) || strpbrk(container, "/\n"))
		abort();
	input = data;
	input_len = size;
	if (mounttab_read(-1, &t, &e) == 0)
		look(&t);
	else if (!*e.text)
		abort();
	mounttab_free(&t);
	return 0;
}
