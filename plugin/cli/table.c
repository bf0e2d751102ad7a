/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "plugin/cli/cli.h"

#define END                                                                                        \
	{                                                                                          \
		0, NULL, NULL, NULL                                                                \
	}

/* What `tarn bundle` and `tarn run` have in common. */
#define BUNDLE_OPTIONS                                                                             \
	{OPT_READ_ONLY, "read-only", NULL, "no writable layer over the image"},                    \
		{'e', "env", "K=V", "set an environment variable"},                                \
		{'v', "volume", "SRC:DST[:ro]", "bind a directory or file of the host"},           \
		{OPT_NET, "net", "host|none", "the host's network, or none (default)"},            \
	{                                                                                          \
		't', "tty", NULL, "give it a terminal"                                             \
	}

static const struct cli_option pull_options[] = {
	{OPT_KEEP, "keep", "auto|all|none", "content kept here; auto: what crossed a network"},
	{OPT_NAME, "name", "NAME", "name of the image; default: made from SRC"},
	{OPT_PLATFORM, "platform", "OS/ARCH[/VARIANT]", "default: this machine's"},
	{OPT_AUTHFILE, "authfile", "FILE", "credentials, as podman login writes them"},
	{OPT_TLS_VERIFY, "tls-verify", "true|false",
	 "false: unchecked certificates, or plain HTTP"},
	END,
};

static const struct cli_option bundle_options[] = {BUNDLE_OPTIONS, END};

static const struct cli_option run_options[] = {
	{OPT_RUNTIME, "runtime", "runc|crun|PATH", "the OCI runtime; default: the first found"},
	{OPT_RM, "rm", NULL, "remove the container's writable layer when it ends"},
	{'i', "interactive", NULL, "keep stdin open"},
	{OPT_NAME, "name", "ID", "id of the container"},
	BUNDLE_OPTIONS,
	END,
};

static const struct cli_option wait_options[] = {
	{OPT_WAIT, "wait", NULL, "return when all of it is there"},
	END,
};

static const struct cli_option evict_options[] = {
	{OPT_ALL, "all", NULL, "every layer"},
	{OPT_FREE, "free", "SIZE", "stop when so much is free (K, M, G)"},
	{OPT_COLD_FOR, "cold-for", "TIME", "only what nobody read for so long (s, m, h, d)"},
	{OPT_WAIT, "wait", NULL, "opening a file meanwhile waits instead of EBUSY"},
	END,
};

static const struct cli_option status_options[] = {
	{OPT_WAITING, "waiting", NULL, "also who waits for what"},
	{OPT_ACKNOWLEDGE, "acknowledge", NULL, "and forget about layers that were lost"},
	END,
};

const struct cli_verb cli_verbs[] = {
	{"doctor", "", "check what this machine can do, by trying it", NULL, false, 0, 0,
	 cmd_doctor},
	{"pull", "SRC", "get an image: its index, and no more content than asked", pull_options,
	 false, 1, 1, cmd_pull},
	{"images", "", "images, with their sizes and what of them is here", NULL, false, 0, 0,
	 cmd_images},
	{"layers", "[IMAGE]", "layers, with their sizes and what of them is here", NULL, false, 0,
	 1, cmd_layers},
	{"bundle", "IMAGE DIR [-- CMD...]", "write an OCI runtime bundle", bundle_options, false, 2,
	 -1, cmd_bundle},
	{"run", "IMAGE [CMD...]", "run a container", run_options, true, 1, -1, cmd_run},
	{"mount", "IMAGE DIR", "mount an image's root file system", NULL, false, 2, 2, cmd_mount},
	{"umount", "DIR", "unmount it", NULL, false, 1, 1, cmd_umount},
	{"fill", "IMAGE|LAYER", "bring the rest of the content here, in the background",
	 wait_options, false, 1, 1, cmd_fill},
	{"evict", "IMAGE|LAYER|--all", "give disk space back; content returns on demand",
	 evict_options, false, 0, 1, cmd_evict},
	{"verify", "IMAGE|LAYER", "read what is here again and drop what is bad", NULL, false, 1, 1,
	 cmd_verify},
	{"status", "", "daemon, layers, containers, events, bytes", status_options, false, 0, 0,
	 cmd_status},
	{"pin", "IMAGE [PATH...]", "fill an image, or paths of it, and never evict it", NULL, false,
	 1, -1, cmd_pin},
	{"unpin", "IMAGE [PATH...]", "undo pin", NULL, false, 1, -1, cmd_unpin},
	{"rm", "IMAGE", "forget an image", NULL, false, 1, 1, cmd_rm},
	{"gc", "", "remove what nothing uses", NULL, false, 0, 0, cmd_gc},
	{NULL, NULL, NULL, NULL, false, 0, 0, NULL},
};
