/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "plugin/cli/doctor.h"
#include "plugin/fault/fan.h"
#include "plugin/uapi.h"

#define NEW_KERNEL "install a kernel of Linux 6.14 or newer with CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
#define OTHER_FS   "put the store on ext4, xfs or btrfs (--store DIR)"
#define FILE_SIZE  8192

/* --- the file system of the store --- */

static const char *fs_name(const struct statfs *st)
{
	/* statfs(2) */
	switch ((unsigned long)st->f_type) {
	case 0xef53:
		return "ext4";
	case 0x58465342:
		return "xfs";
	case 0x9123683e:
		return "btrfs";
	case 0x01021994:
		return "tmpfs";
	case 0x794c7630:
		return "overlay";
	case 0x6969:
		return "nfs";
	case 0x65735546:
		return "fuse";
	case 0x2fc12fc1:
		return "zfs";
	case 0xf2f52010:
		return "f2fs";
	default:
		return "other";
	}
}

/* The store, or what is nearest to it among the directories above. */
static int open_nearest(struct lab *lab, const char *store)
{
	snprintf(lab->path, sizeof(lab->path), "%s", store);
	for (;;) {
		char *slash;

		lab->dir = open(lab->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (lab->dir >= 0 || errno != ENOENT)
			return lab->dir >= 0 ? 0 : -errno;
		slash = strrchr(lab->path, '/');
		if (!slash)
			snprintf(lab->path, sizeof(lab->path), ".");
		else if (slash == lab->path)
			slash[1] = '\0';
		else
			*slash = '\0';
	}
}

int lab_file(const struct lab *lab)
{
	int fd = openat(lab->dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

static bool check_store(struct lab *lab, const char *store, struct report *rp)
{
	_cleanup_fd_ int fd = -1;
	struct statfs st = {0};
	const char *type;
	int r = open_nearest(lab, store);

	if (r == 0 && fstatfs(lab->dir, &st) < 0)
		r = -errno;
	if (r == 0)
		r = fd = lab_file(lab);
	if (r < 0) {
		report_add(rp, "store", HEALTH_MISSING, OTHER_FS, "%s: %s", lab->path,
			   err_words(r));
		return false;
	}
	type = fs_name(&st);
	r = lab->content < 0 ? 0 : fan_mark_content(lab->content, fd, true);
	if (r < 0)
		report_add(rp, "store", HEALTH_MISSING, OTHER_FS,
			   "%s is on %s, which cannot raise pre-content events (%s)", lab->path,
			   type, err_words(r));
	else
		report_add(rp, "store", HEALTH_OK, NULL, "%s is on %s, %llu MiB free", lab->path,
			   type,
			   (unsigned long long)st.f_bavail * (unsigned long long)st.f_bsize >> 20);
	return r == 0;
}

/* --- the groups --- */

static void check_groups(struct lab *lab, struct report *rp)
{
	struct err e = ERR_INIT;
	int r = fan_open_content(&lab->content, &e);

	if (r == 0)
		r = fan_open_exec(&lab->exec, &e);
	if (r < 0)
		report_add(rp, "fanotify", HEALTH_MISSING, NEW_KERNEL, "%s", e.text);
	else
		report_add(rp, "fanotify", HEALTH_OK, NULL, "pre-content and permission groups");
}

static void check_errnos(const struct lab *lab, struct report *rp)
{
	static const struct {
		int code;
		const char *name;
	} codes[] = {{EPERM, "EPERM"},     {EIO, "EIO"},       {EBUSY, "EBUSY"},
		     {ETXTBSY, "ETXTBSY"}, {EAGAIN, "EAGAIN"}, {ENOSPC, "ENOSPC"},
		     {EDQUOT, "EDQUOT"}};
	char good[128] = "", bad[128] = "";

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		char *to = fan_errno_supported(lab->content, codes[i].code) ? good : bad;
		size_t n = strlen(to);

		snprintf(to + n, sizeof(good) - n, "%s%s", n ? " " : "", codes[i].name);
	}
	if (bad[0])
		report_add(rp, "errno answers", HEALTH_WARN,
			   "nothing: evicted files are refused with EPERM instead",
			   "not accepted: %s", bad);
	else
		report_add(rp, "errno answers", HEALTH_OK, NULL, "%s", good);
}

bool lab_open(struct lab *lab, const char *store, struct report *rp)
{
	*lab = (struct lab){.dir = -1, .content = -1, .exec = -1};
	check_groups(lab, rp);
	return check_store(lab, store, rp) && lab->exec >= 0;
}

void lab_close(struct lab *lab)
{
	/* Whoever still waits for an answer is let go with the groups. */
	cleanup_closep(&lab->content);
	cleanup_closep(&lab->exec);
	cleanup_closep(&lab->dir);
}

/* --- does a read raise an event, and get what is written then? --- */

static int read_file(void *ctx)
{
	uint8_t data[FILE_SIZE];
	_cleanup_fd_ int fd = -1;
	char path[32];

	/* A descriptor of its own: events are decided when a file is opened. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", *(int *)ctx);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fd_pread_full(fd, data, sizeof(data), 0) < 0)
		return 1;
	return pattern_ok(data, sizeof(data), 0) ? 0 : 2;
}

void doctor_events(struct lab *lab, struct report *rp)
{
	_cleanup_fd_ int fd = lab_file(lab);
	unsigned events = 0;
	int r = fd;

	check_errnos(lab, rp);
	if (r >= 0 && ftruncate(fd, FILE_SIZE) < 0)
		r = -errno;
	if (r >= 0)
		r = fan_mark_content(lab->content, fd, true);
	if (r < 0) {
		report_add(rp, "pre-content events", HEALTH_MISSING, NEW_KERNEL, "%s",
			   err_words(r));
		return;
	}
	r = trial_run(lab->content, read_file, &fd, &events);
	fan_mark_content(lab->content, fd, false);
	if (r == 0 && events > 0)
		report_add(rp, "pre-content events", HEALTH_OK, NULL,
			   "a read waited and got what was written then (%u event%s)", events,
			   events == 1 ? "" : "s");
	else
		report_add(rp, "pre-content events", HEALTH_MISSING, NEW_KERNEL, "%s",
			   r == -ETIMEDOUT ? "a reader was not let go"
			   : events == 0   ? "a read of a marked file raised no event"
					   : "a reader got other bytes than were written");
}
