/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "oci/base/cleanup.h"
#include "oci/base/err.h"

/* What uname(2) says, and what Go and so all images call it. */
static const struct {
	const char *machine, *arch, *variant;
} machines[] = {
	{"x86_64", "amd64", ""}, {"aarch64", "arm64", ""},       {"armv8l", "arm", "v7"},
	{"armv7l", "arm", "v7"}, {"armv6l", "arm", "v6"},        {"i386", "386", ""},
	{"i686", "386", ""},     {"loongarch64", "loong64", ""},
};

static void set_machine(struct platform *p, const char *machine)
{
	for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
		if (strcmp(machines[i].machine, machine) == 0) {
			snprintf(p->arch, sizeof(p->arch), "%s", machines[i].arch);
			snprintf(p->variant, sizeof(p->variant), "%s", machines[i].variant);
			return;
		}
	}
	/* riscv64, s390x, ppc64le: the same word on both sides. */
	snprintf(p->arch, sizeof(p->arch), "%.*s", (int)sizeof(p->arch) - 1, machine);
}

/* #syscalls engine: uname */
void platform_local(struct platform *ret)
{
	struct platform p = {.os = "linux"};
	struct utsname u;

	/* uname(2) fails only for a bad pointer. */
	if (uname(&u) == 0)
		set_machine(&p, u.machine);
	*ret = p;
}

/* Cuts one component off *text into @out. False when it is empty, too long or not plain. */
static bool take_component(const char **text, char out[32])
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789._-";
	size_t len = strcspn(*text, "/");

	if (len == 0 || len >= 32 || strspn(*text, plain) < len)
		return false;
	memcpy(out, *text, len);
	out[len] = '\0';
	*text += len;
	return true;
}

int platform_parse(const char *text, struct platform *ret, struct err *e)
{
	struct platform p = {.variant = ""};
	const char *rest = text;
	char arch[32];
	bool ok;

	ok = take_component(&rest, p.os) && *rest++ == '/' && take_component(&rest, arch);
	if (ok) {
		set_machine(&p, arch);
		if (*rest == '/') {
			rest++;
			ok = take_component(&rest, p.variant);
		}
	}
	if (!ok || *rest)
		return err_set(e, -EINVAL,
			       "'%.100s' is not a platform: expected OS/ARCH[/VARIANT], "
			       "such as linux/arm64",
			       text);
	*ret = p;
	return 0;
}
