/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/erofs/image.h"
#include "oci/index/index.h"
#include "plugin/cli/doctor.h"
#include "plugin/fault/fan.h"
#include "plugin/mount/mounts.h"
#include "plugin/uapi.h"

#define EROFS_TODO "use a kernel of Linux 6.12 or newer with CONFIG_EROFS_FS_BACKED_BY_FILE"
#define KILL_TODO                                                                                  \
	"use a kernel that has \"erofs: set fileio bio failed in short read case\" (Linux 7.0, "   \
	"or "                                                                                      \
	"a stable update)"

/* One layer of one file, as a pull would make it. */
#define FILE_NAME "file"
#define FILE_OFF  512u
#define FILE_SIZE (60u << 10)
#define TAR_SIZE  (64u << 10)

struct model {
	int tar, image; /* owned */
	int mount;      /* owned; detached */
	uint64_t nid;   /* of the file */
};

static void model_free(struct model *m)
{
	cleanup_closep(&m->mount);
	cleanup_closep(&m->image);
	cleanup_closep(&m->tar);
}

static int write_image(const struct model *m, struct err *e)
{
	const struct entry dir = {.type = ENTRY_DIR, .path = "", .mode = 0755};
	const struct entry file = {.type = ENTRY_REG,
				   .path = FILE_NAME,
				   .mode = 0644,
				   .size = FILE_SIZE,
				   .tar_offset = FILE_OFF};
	struct index ix = {
		.tar_size = TAR_SIZE, .span_size = LIMIT_SPAN_MIN, .nspans = 1, .nentries = 2};
	_cleanup_buf_ struct buf toc = {0};
	int r;

	buf_init(&toc, LIMIT_SPAN_MIN);
	r = toc_put(&toc, &dir);
	if (r == 0)
		r = toc_put(&toc, &file);
	if (r < 0)
		return err_errno(e, r, "making an index");
	ix.toc = toc.data;
	ix.toc_len = toc.len;
	return erofs_image_write(&ix, "trial image", m->image, e);
}

/* Marked before it is mounted (law 1). */
static int model_make(const struct lab *lab, struct model *m, struct err *e)
{
	struct stat st;
	int r;

	*m = (struct model){.tar = lab_file(lab), .image = lab_file(lab), .mount = -1};
	if (m->tar < 0 || m->image < 0)
		return err_errno(e, m->tar < 0 ? m->tar : m->image, "making files in the store");
	if (ftruncate(m->tar, TAR_SIZE) < 0)
		return err_errno(e, -errno, "making files in the store");
	r = write_image(m, e);
	if (r < 0)
		return r;
	r = fan_mark_content(lab->content, m->tar, true);
	if (r < 0)
		return err_errno(e, r, "marking");
	m->mount = mount_erofs(m->image, m->tar, e);
	if (m->mount < 0)
		return m->mount;
	if (fstatat(m->mount, FILE_NAME, &st, 0) < 0)
		return err_errno(e, -errno, "looking into the mounted image");
	m->nid = st.st_ino;
	return 0;
}

/* --- children --- */

static int read_below(int root)
{
	_cleanup_free_ uint8_t *data = malloc(FILE_SIZE);
	_cleanup_fd_ int fd = openat(root, FILE_NAME, O_RDONLY | O_CLOEXEC);

	if (!data || fd < 0 || fd_pread_full(fd, data, FILE_SIZE, 0) < 0)
		return 1;
	return pattern_ok(data, FILE_SIZE, FILE_OFF) ? 0 : 2;
}

static int read_model(void *ctx)
{
	return read_below(((struct model *)ctx)->mount);
}

static int read_overlay(void *ctx)
{
	int root = *(int *)ctx;
	_cleanup_fd_ int fd = -1;

	if (read_below(root) != 0)
		return 1;
	/* Copied up, and written to. */
	fd = openat(root, FILE_NAME, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && fd_pwrite_full(fd, "x", 1, 0) == 0 ? 0 : 2;
}

static int open_busy(void *ctx)
{
	int fd = openat(((struct model *)ctx)->mount, FILE_NAME, O_RDONLY | O_CLOEXEC);

	return fd < 0 && errno == EBUSY ? 0 : 1;
}

/* --- the checks --- */

static void check_erofs(struct lab *lab, struct model *m, struct report *rp)
{
	unsigned events = 0;
	int r = trial_run(lab->content, read_model, m, &events);

	if (r == 0 && events > 0)
		report_add(rp, "EROFS over a file", HEALTH_OK, NULL,
			   "mounted; a read waited and got what was written then (%u event%s)",
			   events, events == 1 ? "" : "s");
	else
		report_add(rp, "EROFS over a file", HEALTH_MISSING, EROFS_TODO, "%s",
			   r == -ETIMEDOUT ? "a reader was not let go"
			   : events == 0   ? "a read through it raised no event"
					   : "a reader got other bytes than were written");
}

/* A page that a killed reader left behind would be wrong for everyone. */
static void check_killed(struct lab *lab, struct report *rp)
{
	__attribute__((cleanup(model_free))) struct model m;
	struct err e = ERR_INIT;
	int r = model_make(lab, &m, &e);

	if (r == 0)
		r = trial_kill(lab->content, read_model, &m);
	if (r == 0)
		r = trial_run(lab->content, read_model, &m, NULL);
	if (r == 0)
		report_add(rp, "killed readers", HEALTH_OK, NULL,
			   "a reader killed while it waited left nothing behind");
	else if (r == 2)
		report_add(rp, "killed readers", HEALTH_WARN, KILL_TODO,
			   "a reader killed while it waited left zeros in the cache for everyone");
	else
		report_add(rp, "killed readers", HEALTH_WARN, NULL, "could not be tried: %s",
			   e.code ? e.text : err_words(r));
}

static void check_exec(struct lab *lab, struct model *m, struct report *rp)
{
	int r = fan_mark_fs(lab->exec, m->mount, FAN_OPEN_EXEC_PERM | FAN_OPEN_PERM);

	if (r == 0)
		r = trial_run(lab->exec, open_busy, m, NULL);
	fan_mark_fs(lab->exec, m->mount, 0);
	if (r == 0)
		report_add(rp, "open and exec events", HEALTH_OK, NULL,
			   "an open was refused with EBUSY");
	else
		report_add(rp, "open and exec events", HEALTH_WARN,
			   "eviction cannot keep files shut meanwhile; it leaves more in place",
			   "an open was not refused (%s)", r < 0 ? err_words(r) : "it succeeded");
}

static void check_lease(struct model *m, struct report *rp)
{
	_cleanup_fd_ int root = openat(m->mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int fd = -1;
	uint8_t idle = 0, used = 0;

	if (root >= 0)
		lease_probe(root, &m->nid, 1, &idle);
	fd = openat(m->mount, FILE_NAME, O_RDONLY | O_CLOEXEC);
	if (root >= 0)
		lease_probe(root, &m->nid, 1, &used);
	if (idle && !used)
		report_add(rp, "leases", HEALTH_OK, NULL,
			   "tell a file in use from one that is not");
	else
		report_add(rp, "leases", HEALTH_WARN,
			   "content under running containers cannot be evicted",
			   "do not tell whether a file is in use (idle: %s, open: %s)",
			   idle ? "free" : "in use", used ? "free" : "in use");
}

/* Upper and work need names: a directory that goes with everything in it. */
static int overlay_over(const struct lab *lab, const struct model *m, const char *name,
			struct err *e)
{
	_cleanup_fd_ int top =
		fd_open_beneath(lab->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	_cleanup_fd_ int upper = -1;
	_cleanup_fd_ int work = -1;

	if (top < 0 || fd_mkdir(top, "upper", 0755) < 0 || fd_mkdir(top, "work", 0755) < 0)
		return err_errno(e, top < 0 ? top : -errno, "making directories in the store");
	upper = openat(top, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	work = openat(top, "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return mount_overlay(&m->mount, 1, upper, work, "", e);
}

static void check_overlay(struct lab *lab, struct model *m, struct report *rp)
{
	_cleanup_fd_ int mount = -1;
	struct err e = ERR_INIT;
	char name[48];
	int r;

	snprintf(name, sizeof(name), ".tarn-doctor.%d", getpid());
	r = fd_mkdir(lab->dir, name, 0700);
	if (r < 0)
		err_errno(&e, r, "making directories in the store");
	else
		r = mount = overlay_over(lab, m, name, &e);
	if (r >= 0)
		r = trial_run(lab->content, read_overlay, &mount, NULL);
	if (r == 0)
		report_add(rp, "overlay by descriptor", HEALTH_OK, NULL,
			   "read and written through an overlay of detached mounts");
	else
		report_add(rp, "overlay by descriptor", HEALTH_MISSING,
			   "use a kernel of Linux 6.13 or newer with CONFIG_OVERLAY_FS", "%s",
			   e.code ? e.text : "a file could not be read or written through it");
	cleanup_closep(&mount);
	mount = -1;
	fd_remove_tree(lab->dir, name);
}

void doctor_mounts(struct lab *lab, struct report *rp)
{
	__attribute__((cleanup(model_free))) struct model m;
	struct err e = ERR_INIT;

	if (model_make(lab, &m, &e) < 0) {
		report_add(rp, "EROFS over a file", HEALTH_MISSING, EROFS_TODO, "%s", e.text);
		return;
	}
	check_erofs(lab, &m, rp);
	check_overlay(lab, &m, rp);
	check_lease(&m, rp);
	check_exec(lab, &m, rp);
	check_killed(lab, rp);
}
