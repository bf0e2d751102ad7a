/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "plugin/cli/cli.h"
#include "plugin/cli/doctor.h"
#include "plugin/cli/tool.h"
#include "plugin/ctl/proto.h"
#include "plugin/isolate.h"

static void check_kernel(struct report *rp)
{
	struct utsname u;

	if (uname(&u) == 0)
		report_add(rp, "kernel", HEALTH_OK, NULL, "%s %s, %s", u.sysname, u.release,
			   u.machine);
}

static void check_capabilities(struct report *rp)
{
	char bad[256];

	isolate_keeper_lacks(bad, sizeof(bad));
	if (bad[0])
		report_add(rp, "capabilities", HEALTH_MISSING,
			   "run as root, outside of containers that drop them", "missing: %s", bad);
	else
		report_add(rp, "capabilities", HEALTH_OK, NULL, "all that tarnd needs");
}

/* One fence more around fetchers, which are locked in without it, too. */
static void check_landlock(struct report *rp)
{
	int abi = isolate_landlock();

	if (abi < 0)
		report_add(rp, "landlock", HEALTH_OK, NULL,
			   "not in this kernel: fetchers go without it");
	else
		report_add(rp, "landlock", HEALTH_OK, NULL, "version %d, for fetchers", abi);
}

void doctor_host(struct report *rp)
{
	check_kernel(rp);
	check_capabilities(rp);
	check_landlock(rp);
}

/* The first line of "NAME --version", without the name. 1 found, 0 not. */
static int version_of(const char *name, char *out, size_t size)
{
	const char *const argv[] = {name, "--version", NULL};
	const char *text;
	_cleanup_buf_ struct buf b = {0};

	buf_init(&b, 4096);
	if (tool_run(argv, NULL, &b) != 0)
		return 0;
	text = buf_cstr(&b);
	if (!text)
		return 0;
	if (strncmp(text, name, strlen(name)) == 0)
		text += strlen(name);
	text += strspn(text, " ");
	if (strncmp(text, "version ", 8) == 0)
		text += 8;
	snprintf(out, size, "%.*s", (int)strcspn(text, "\n"), text);
	return 1;
}

void doctor_runtimes(struct report *rp)
{
	char runc[64], crun[64], podman[64];
	int has_runc = version_of("runc", runc, sizeof(runc));
	int has_crun = version_of("crun", crun, sizeof(crun));

	if (has_runc)
		report_add(rp, "runc", HEALTH_OK, NULL, "%s", runc);
	if (has_crun)
		report_add(rp, "crun", HEALTH_OK, NULL, "%s", crun);
	if (!has_runc && !has_crun)
		report_add(rp, "OCI runtime", HEALTH_WARN, "install runc or crun",
			   "neither runc nor crun is in PATH");
	if (version_of("podman", podman, sizeof(podman)))
		report_add(rp, "podman", HEALTH_OK, NULL, "%s", podman);
}

void doctor_daemon(struct report *rp, const struct cli *cli)
{
	_cleanup_(ctl_client_freep) struct ctl_client *c = NULL;
	struct err e = ERR_INIT;

	if (ctl_connect(cli->socket, &c, &e) == 0)
		report_add(rp, "tarnd", HEALTH_OK, NULL, "answers at %s", cli->socket);
	else
		report_add(rp, "tarnd", HEALTH_WARN, "systemctl start tarnd",
			   "nobody answers at %s", cli->socket);
}
