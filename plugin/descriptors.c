/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "plugin/fault/slots.h"
#include "plugin/log.h"

#define FEW 4096 /* an old default; systemd's is 524,288 */

/* More than that would be of no use, and a number has 31 bits. */
#define MOST (1u << 24)

static uint32_t at_most(uint32_t n, uint32_t limit)
{
	return n < limit ? n : limit;
}

int descriptors_raise(uint32_t *ret, struct err *e)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_errno(e, -errno, "getrlimit");
	if (l.rlim_max < LIMIT_NOFILE_LEAST)
		return err_set(e, -EMFILE,
			       "at most %lu descriptors may be open, and %d are the least to work "
			       "with (ulimit -n, LimitNOFILE=)",
			       (unsigned long)l.rlim_max, LIMIT_NOFILE_LEAST);
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_errno(e, -errno, "setrlimit");
	*ret = l.rlim_cur < MOST ? (uint32_t)l.rlim_cur : MOST;
	return 0;
}

uint32_t descriptors_layers(uint32_t n)
{
	return at_most(n / 8, LIMIT_MOUNTED);
}

void descriptors_share(struct slots *t, uint32_t n)
{
	t->descriptors = n;
	t->count = at_most(n / 4, LIMIT_SLOTS);
	t->most_clients = at_most(n / 16, LIMIT_CTL_CLIENTS);
	if (n < FEW)
		log_warn("at most %u descriptors may be open: %u readers are looked at and %u "
			 "layers mounted at once (ulimit -n, LimitNOFILE=)",
			 n, t->count, descriptors_layers(n));
}

/*
 * The lowest number that is free is the one it would get; the highest are left to whatever else
 * comes in the meantime.
 * #syscalls engine: fcntl@1=F_DUPFD_CLOEXEC close
 */
bool descriptors_left(uint32_t n, int any)
{
	int fd = fcntl(any, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return false;
	close(fd);
	return (uint32_t)fd + DESCRIPTORS_SPARE < n;
}
