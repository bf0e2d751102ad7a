/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/bundle_spec.h"

#include <string.h>

#include "oci/base/cleanup.h"
#include "oci/base/json.h"

/* The newest version that every runtime we run under reads (runc 1.1, crun 1.8). */
#define SPEC_VERSION "1.0.2"

#define DEFAULT_HOSTNAME "tarn"

/*
 * Seconds. A container may have to wait for the start of a daemon and for a registry; runtimes
 * themselves would wait for ever.
 */
#define CREATE_TIMEOUT   120
#define POSTSTOP_TIMEOUT 30

/* What podman grants, which is Docker's set without MKNOD, NET_RAW and AUDIT_WRITE. */
static const char *const capabilities[] = {
	"CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",     "CAP_FSETID",
	"CAP_KILL",    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",    "CAP_SETGID",
	"CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT",
};

#define MOUNT_OPTIONS 6

struct mount {
	const char *dst, *type, *src;
	const char *options[MOUNT_OPTIONS + 1]; /* NULL-terminated */
};

/* These, and the paths below, are what `runc spec` writes. */
static const struct mount mounts[] = {
	{"/proc", "proc", "proc", {NULL}},
	{"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
	{"/dev/pts",
	 "devpts",
	 "devpts",
	 {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
	{"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
	{"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
	{"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}},
};

static const struct mount cgroup_mount = {
	"/sys/fs/cgroup",
	"cgroup",
	"cgroup",
	{"nosuid", "noexec", "nodev", "relatime", "ro"},
};

static const char *const masked_paths[] = {
	"/proc/acpi",          "/proc/asound",     "/proc/kcore",       "/proc/keys",
	"/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
	"/sys/firmware",       "/proc/scsi",
};

static const char *const readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static void put_list(struct json_gen *g, const char *key, const char *const *v, size_t n)
{
	json_open_array(g, key);
	for (size_t i = 0; i < n; i++)
		json_put_str(g, NULL, v[i]);
	json_close_array(g);
}

static void put_strv(struct json_gen *g, const char *key, const struct strv *s)
{
	put_list(g, key, (const char *const *)s->v, s->n);
}

static void put_user(struct json_gen *g, const struct bundle_user *user)
{
	json_open_map(g, "user");
	json_put_int(g, "uid", user->uid);
	json_put_int(g, "gid", user->gid);
	if (user->ngroups) {
		json_open_array(g, "additionalGids");
		for (uint32_t i = 0; i < user->ngroups; i++)
			json_put_int(g, NULL, user->groups[i]);
		json_close_array(g);
	}
	json_close_map(g);
}

/*
 * No ambient and no inheritable capabilities: a user other than root starts without any. No
 * rlimits either: `runc spec` cuts open files to 1024, which is below what servers need.
 */
static void put_process(struct json_gen *g, const struct bundle_spec *s)
{
	static const char *const sets[] = {"bounding", "effective", "permitted"};

	json_open_map(g, "process");
	json_put_bool(g, "terminal", s->opt->terminal);
	put_user(g, s->user);
	put_strv(g, "args", &s->args);
	put_strv(g, "env", &s->env);
	json_put_str(g, "cwd", s->cwd);
	json_open_map(g, "capabilities");
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		put_list(g, sets[i], capabilities, ARRAY_LEN(capabilities));
	json_close_map(g);
	json_put_bool(g, "noNewPrivileges", true);
	json_close_map(g);
}

static void put_mount(struct json_gen *g, const struct mount *m)
{
	size_t n = 0;

	while (m->options[n])
		n++;
	json_open_map(g, NULL);
	json_put_str(g, "destination", m->dst);
	json_put_str(g, "type", m->type);
	json_put_str(g, "source", m->src);
	if (n)
		put_list(g, "options", m->options, n);
	json_close_map(g);
}

static void put_mounts(struct json_gen *g, const struct bundle_options *opt)
{
	json_open_array(g, "mounts");
	for (size_t i = 0; i < ARRAY_LEN(mounts); i++)
		put_mount(g, &mounts[i]);
	if (opt->cgroup_mount)
		put_mount(g, &cgroup_mount);
	for (size_t i = 0; i < opt->nvolumes; i++) {
		const struct bundle_volume *v = &opt->volumes[i];

		put_mount(g, &(struct mount){v->dst,
					     "bind",
					     v->src,
					     {"rbind", "rprivate", v->read_only ? "ro" : NULL}});
	}
	json_close_array(g);
}

static void put_hook(struct json_gen *g, const struct bundle_spec *s, const char *stage,
		     int timeout)
{
	const char *const args[] = {"tarn-hook", stage};

	json_open_array(g, stage);
	json_open_map(g, NULL);
	json_put_str(g, "path", s->opt->hook_path);
	put_list(g, "args", args, ARRAY_LEN(args));
	put_strv(g, "env", &s->hook_env);
	json_put_int(g, "timeout", timeout);
	json_close_map(g);
	json_close_array(g);
}

static void put_hooks(struct json_gen *g, const struct bundle_spec *s)
{
	json_open_map(g, "hooks");
	put_hook(g, s, "createRuntime", CREATE_TIMEOUT);
	put_hook(g, s, "poststop", POSTSTOP_TIMEOUT);
	json_close_map(g);
}

static void put_annotations(struct json_gen *g, const struct bundle_spec *s)
{
	char digest[DIGEST_TEXT];

	json_open_map(g, "annotations");
	/* image-spec conversion.md */
	if (s->stop_signal)
		json_put_str(g, "org.opencontainers.image.stopSignal", s->stop_signal);
	json_put_str(g, ANNOTATION_IMAGE, digest_text(s->opt->image, digest));
	json_put_str(g, ANNOTATION_RW, s->opt->read_only ? "false" : "true");
	json_close_map(g);
}

static void put_linux(struct json_gen *g, bool host_net)
{
	static const char *const namespaces[] = {"pid", "network", "ipc", "uts", "mount"};

	json_open_map(g, "linux");
	json_open_map(g, "resources");
	json_open_array(g, "devices");
	json_open_map(g, NULL);
	json_put_bool(g, "allow", false);
	json_put_str(g, "access", "rwm");
	json_close_map(g);
	json_close_array(g);
	json_close_map(g);
	json_open_array(g, "namespaces");
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
		if (host_net && strcmp(namespaces[i], "network") == 0)
			continue;
		json_open_map(g, NULL);
		json_put_str(g, "type", namespaces[i]);
		json_close_map(g);
	}
	json_close_array(g);
	put_list(g, "maskedPaths", masked_paths, ARRAY_LEN(masked_paths));
	put_list(g, "readonlyPaths", readonly_paths, ARRAY_LEN(readonly_paths));
	json_close_map(g);
}

void bundle_spec_put(struct json_gen *g, const struct bundle_spec *s)
{
	const struct bundle_options *opt = s->opt;

	json_open_map(g, NULL);
	json_put_str(g, "ociVersion", SPEC_VERSION);
	put_process(g, s);
	json_open_map(g, "root");
	json_put_str(g, "path", "rootfs");
	json_put_bool(g, "readonly", opt->read_only);
	json_close_map(g);
	json_put_str(g, "hostname", opt->hostname ? opt->hostname : DEFAULT_HOSTNAME);
	put_mounts(g, opt);
	put_hooks(g, s);
	put_annotations(g, s);
	put_linux(g, opt->host_net);
	json_close_map(g);
}
