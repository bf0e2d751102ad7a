/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/others.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "plugin/log.h"
#include "plugin/mount/mounts.h"

#define BDI       "/sys/class/bdi"
#define BOOT_ID   36
#define NAME_LEN  (8 + 2 * DIGEST_HEX + 2)
#define LINE_MAX_ 128
#define TEXT_MAX  (1u << 20)

/* --- names and lines --- */

static void name_of(char out[NAME_LEN], const struct digest *diff_id, const struct digest *scope)
{
	char hex[DIGEST_HEX + 1], scope_hex[DIGEST_HEX + 1];

	if (digest_is_zero(scope))
		snprintf(out, NAME_LEN, "mounted/%s", digest_hex(diff_id, hex));
	else
		snprintf(out, NAME_LEN, "mounted/%s.%s", digest_hex(diff_id, hex),
			 digest_hex(scope, scope_hex));
}

static bool parse_name(const char *name, struct digest *diff_id, struct digest *scope)
{
	size_t len = strlen(name);

	*scope = (struct digest){{0}};
	if (len == DIGEST_HEX)
		return digest_parse_hex(name, len, diff_id) == 0;
	return len == 2 * DIGEST_HEX + 1 && name[DIGEST_HEX] == '.' &&
	       digest_parse_hex(name, DIGEST_HEX, diff_id) == 0 &&
	       digest_parse_hex(name + DIGEST_HEX + 1, DIGEST_HEX, scope) == 0;
}

static int read_boot_id(char out[BOOT_ID + 1])
{
	_cleanup_fd_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID);

	if (n != BOOT_ID)
		return n < 0 ? -errno : -EIO;
	out[BOOT_ID] = '\0';
	return 0;
}

static bool parse_line(const char *line, const char *boot, struct ward_other *ret)
{
	char *end;

	if (strncmp(line, boot, BOOT_ID) != 0 || line[BOOT_ID] != ' ')
		return false;
	ret->number = strtoull(line + BOOT_ID + 1, &end, 10);
	if (*end != ' ')
		return false;
	ret->dev = strtoull(end + 1, &end, 10);
	return *end == '\n';
}

/* In doubt, where there is no sysfs, it is. */
static bool is_alive(uint64_t number)
{
	char path[64];

	snprintf(path, sizeof(path), BDI "/erofs-%" PRIu64, number);
	return access(path, F_OK) == 0 || access(BDI, F_OK) < 0;
}

/* Those of this boot that live; at most WARD_OTHERS, and UINT32_MAX for more. */
static uint32_t read_living(int store, const char *name, struct ward_other out[WARD_OTHERS])
{
	_cleanup_fd_ int fd = fd_open_beneath(store, name, O_RDONLY | O_CLOEXEC, 0);
	_cleanup_buf_ struct buf text = {0};
	char boot[BOOT_ID + 1];
	const char *at;
	uint32_t n = 0;

	buf_init(&text, TEXT_MAX);
	if (fd < 0 || read_boot_id(boot) < 0 || fd_read_all(fd, &text) < 0)
		return UINT32_MAX; /* in doubt they live */
	at = buf_cstr(&text);
	for (const char *end; at && *at; at = end) {
		struct ward_other o;

		end = strchrnul(at, '\n');
		end += *end != '\0';
		if (!parse_line(at, boot, &o) || !is_alive(o.number))
			continue;
		if (n == WARD_OTHERS)
			return UINT32_MAX;
		out[n++] = o;
	}
	return n;
}

/* --- the record --- */

int others_note(int store, const struct ward_layer *l, int mount_fd, struct err *e)
{
	char boot[BOOT_ID + 1], name[NAME_LEN], line[LINE_MAX_];
	_cleanup_fd_ int fd = -1;
	uint64_t number;
	int n, r = mount_number(mount_fd, &number);

	/* This kernel cannot tell; then the lease on the tar has to do. */
	if (r == -EOPNOTSUPP)
		return 0;
	name_of(name, &l->diff_id, &l->scope);
	if (r == 0)
		r = read_boot_id(boot);
	if (r == 0)
		r = fd = fd_open_beneath(store, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC,
					 0600);
	if (r < 0)
		return err_errno(e, r, "store: %s", name);
	n = snprintf(line, sizeof(line), "%s %" PRIu64 " %" PRIu64 "\n", boot, number, l->fs_dev);
	r = fd_write_full(fd, line, (size_t)n);
	return r < 0 ? err_errno(e, r, "store: %s", name) : 0;
}

void others_forget(int store, const struct ward_layer *l)
{
	char name[NAME_LEN];

	name_of(name, &l->diff_id, &l->scope);
	unlinkat(store, name, 0);
}

/* --- who lives --- */

void others_look(int store, struct ward_layer *l)
{
	char name[NAME_LEN];
	uint32_t n;

	name_of(name, &l->diff_id, &l->scope);
	n = read_living(store, name, l->other);
	l->nothers = n == UINT32_MAX ? 0 : n;
}

bool others_live(struct ward_layer *l)
{
	char text[DIGEST_TEXT];
	uint32_t n = 0;

	if (!l->shared || l->nothers == 0)
		return false;
	for (uint32_t i = 0; i < l->nothers; i++)
		if (is_alive(l->other[i].number))
			l->other[n++] = l->other[i];
	l->nothers = n;
	if (n > 0)
		return true;
	l->shared = 0;
	log_info("layer %s: what a tarnd that was killed left has gone; it can be evicted again",
		 digest_text(&l->diff_id, text));
	return false;
}

bool others_any(struct ward *w)
{
	for (int i = 0; i < LIMIT_MOUNTED; i++)
		if (atomic_load(&w->layer[i].state) == WARD_LIVE && others_live(&w->layer[i]))
			return true;
	return false;
}

struct search {
	int store; /* borrowed */
	others_fn *fn;
	void *ctx;
	unsigned n;
};

static int look_at_record(void *ctx, int dir, const char *file)
{
	struct search *s = ctx;
	struct ward_other living[WARD_OTHERS];
	struct digest diff_id, scope;
	char name[NAME_LEN];

	if (!parse_name(file, &diff_id, &scope))
		return 0;
	name_of(name, &diff_id, &scope);
	if (read_living(s->store, name, living) == 0) {
		unlinkat(dir, file, 0);
		return 0;
	}
	s->n++;
	s->fn(s->ctx, &diff_id, &scope);
	return 0;
}

unsigned others_each(int store, others_fn *fn, void *ctx)
{
	struct search s = {.store = store, .fn = fn, .ctx = ctx};
	int r = fd_each_entry(
		fd_open_beneath(store, "mounted", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0),
		look_at_record, &s);

	if (r < 0 && r != -ENOENT)
		log_error("store: mounted: layers that are in use may not be known: %s",
			  err_words(r));
	return s.n;
}
