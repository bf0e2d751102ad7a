/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says what is to fail in tarnd-failing and tarn-failing (tests/torture/failing.h):
 *
 *   failctl FILE new              nothing does
 *   failctl FILE record ROLE...   from now on these roles' sites are written down; none: no more
 *   failctl FILE sites            each as `ROLE SITE TIMES CALL`
 *   failctl FILE arm ROLE SITE N  there, after N times without
 *   failctl FILE call ROLE CALL N ERRNO
 *                                 such a call, wherever it is, after N of them, with that number
 *   failctl FILE fired            `CALL ADDRESS...` if it has; status 1 if not. Nothing fails then
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "tests/torture/failing.h"

static const char *const roles[] = {FAILING_ROLES};

static uint32_t role_of(const char *name)
{
	for (uint32_t i = 0; i < ARRAY_LEN(roles); i++)
		if (!strcmp(roles[i], name))
			return i;
	fprintf(stderr, "failctl: there is no role '%s'\n", name);
	exit(2);
}

static struct failing *map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	struct failing *f;

	if (fd < 0 || ftruncate(fd, sizeof(*f)) < 0)
		return NULL;
	f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return f == MAP_FAILED ? NULL : f;
}

static void print_sites(const struct failing *f)
{
	for (uint32_t i = 0; i < FAILING_SITES; i++) {
		const struct failing_site *s = &f->sites[i];

		if (atomic_load(&s->id))
			printf("%s %" PRIu64 " %" PRIu32 " %s\n", roles[atomic_load(&s->role)],
			       atomic_load(&s->id), atomic_load(&s->times), s->call);
	}
}

static void arm(struct failing *f, const char *role, const char *site, const char *skip,
		const char *err)
{
	atomic_store(&f->fired, 0);
	atomic_store(&f->site, strtoull(site, NULL, 10));
	atomic_store(&f->skip, (int32_t)strtol(skip, NULL, 10));
	atomic_store(&f->err, (int32_t)strtol(err, NULL, 10));
	atomic_store(&f->role, role_of(role) + 1);
}

static void arm_call(struct failing *f, char **argv)
{
	snprintf(f->wanted, sizeof(f->wanted), "%s", argv[1]);
	arm(f, argv[0], "0", argv[2], argv[3]);
}

static int print_fired(struct failing *f)
{
	atomic_store(&f->role, 0);
	if (!atomic_load(&f->fired))
		return 1;
	printf("%s", f->call);
	for (int i = 0; i < FAILING_DEPTH && f->at[i]; i++)
		printf(" %#" PRIx64, f->at[i] - 1);
	puts("");
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "";
	struct failing *f = argc > 2 ? map(argv[1]) : NULL;
	uint32_t record = 0;

	if (!f) {
		fputs("usage: failctl FILE new|record|sites|arm|call|fired [...]\n", stderr);
		return 2;
	}
	if (!strcmp(what, "record")) {
		for (int i = 3; i < argc; i++)
			record |= 1u << role_of(argv[i]);
		atomic_store(&f->record, record);
	} else if (!strcmp(what, "sites")) {
		print_sites(f);
	} else if (!strcmp(what, "arm") && argc == 6) {
		arm(f, argv[3], argv[4], argv[5], "0");
	} else if (!strcmp(what, "call") && argc == 7) {
		arm_call(f, argv + 3);
	} else if (!strcmp(what, "fired")) {
		return print_fired(f);
	} else if (!strcmp(what, "new")) {
		memset(f, 0, sizeof(*f));
	} else {
		return 2;
	}
	return 0;
}
