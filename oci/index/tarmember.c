/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/tarmember.h"

#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "oci/base/cleanup.h"
#include "oci/index/entry.h"
#include "oci/index/rules.h"

#define WHITEOUT      ".wh."
#define WHITEOUT_META ".wh..wh."
#define OPAQUE        ".wh..wh..opq"

const char tarmember_no_memory[] = "out of memory";

/*
 * Leaves out "/" at both ends, empty components and "."; the root is "". Everything else is for
 * rules_path() to judge.
 */
static const char *normalise(const char *in, char out[LIMIT_PATH])
{
	size_t len = 0;

	for (;;) {
		size_t n;

		in += strspn(in, "/");
		n = strcspn(in, "/");
		if (n == 0)
			break;
		if (!(n == 1 && in[0] == '.')) {
			if (len + (len > 0) + n >= LIMIT_PATH)
				return "the path is longer than 4095 bytes";
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, in, n);
			len += n;
		}
		in += n;
	}
	out[len] = '\0';
	return rules_path(out);
}

static bool has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static char *basename_of(char *path)
{
	char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Whether @path lies in one of AUFS's own directories (".wh..wh.plnk" and such). */
static bool below_meta(const char *path)
{
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (has_prefix(p, WHITEOUT_META) && strchr(p, '/'))
			return true;
	}
	return false;
}

/*
 * Turns a whiteout's name into what it hides. 1: @entry is a whiteout now, 0: it is none, or -1:
 * there is nothing to show at all. A refusal goes to *@why.
 */
static int whiteout(struct tarmember *m, struct entry *entry, const char **why)
{
	char *name = basename_of(m->path);

	if (below_meta(m->path))
		return -1;
	if (!has_prefix(name, WHITEOUT))
		return 0;
	if (strcmp(name, OPAQUE) == 0) {
		entry->type = ENTRY_OPAQUE;
		name[0] = '\0';
		if (name > m->path)
			name[-1] = '\0';
		return 1;
	}
	if (has_prefix(name, WHITEOUT_META))
		return -1;
	entry->type = ENTRY_WHITEOUT;
	memmove(name, name + strlen(WHITEOUT), strlen(name) - strlen(WHITEOUT) + 1);
	*why = name[0] ? rules_path(m->path) : "a whiteout without a name";
	return 1;
}

static int compare_xattrs(const void *a, const void *b)
{
	const struct entry_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/*
 * libarchive hands them out last first; of two with one name the later counts, as everywhere.
 * (SCHILY.acl.* become ACL entries in libarchive and are left alone: no image tool applies them.
 * Images carry ACLs as SCHILY.xattr.system.posix_acl_*.)
 */
static const char *take_xattrs(struct tarmember *m, struct archive_entry *ae, struct entry *entry)
{
	int count = archive_entry_xattr_reset(ae);
	uint32_t n = 0, kept = 0;
	const void *value;
	const char *name;
	size_t len;

	if (count > LIMIT_XATTRS)
		return "it has more than 1024 extended attributes";
	if ((uint32_t)count > m->xattrs_cap) {
		free(m->xattrs);
		m->xattrs = calloc((size_t)count, sizeof(*m->xattrs));
		m->xattrs_cap = m->xattrs ? (uint32_t)count : 0;
		if (!m->xattrs)
			return tarmember_no_memory;
	}
	while (n < (uint32_t)count &&
	       archive_entry_xattr_next(ae, &name, &value, &len) == ARCHIVE_OK) {
		bool again = false;

		if (!name || !rules_xattr(name))
			continue;
		if (len > LIMIT_XATTR_VALUE)
			return "an extended attribute is larger than 65535 bytes";
		for (uint32_t i = 0; i < n; i++)
			again |= strcmp(m->xattrs[i].name, name) == 0;
		if (!again)
			m->xattrs[n++] = (struct entry_xattr){name, value, (uint32_t)len};
	}
	kept = n;
	if (kept > 1)
		qsort(m->xattrs, kept, sizeof(*m->xattrs), compare_xattrs);
	entry->nxattrs = kept;
	entry->xattrs = m->xattrs;
	return NULL;
}

static const char *take_attributes(struct tarmember *m, struct archive_entry *ae,
				   struct entry *entry)
{
	int64_t uid = archive_entry_uid(ae), gid = archive_entry_gid(ae);

	/* (uid_t)-1 is no owner: chown(2) takes it for "leave as it is". */
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return "its owner or group is not a 32-bit number";
	entry->mode = archive_entry_perm(ae) & 07777;
	entry->uid = (uint32_t)uid;
	entry->gid = (uint32_t)gid;
	entry->mtime = archive_entry_mtime(ae);
	entry->mtime_ns = (uint32_t)archive_entry_mtime_nsec(ae);
	return take_xattrs(m, ae, entry);
}

static const char *take_target(struct tarmember *m, const char *target, struct entry *entry)
{
	if (!target || !target[0])
		return "its link target is empty";
	entry->target = m->target;
	if (entry->type == ENTRY_HARDLINK)
		return normalise(target, m->target);
	if (strlen(target) >= LIMIT_PATH)
		return "its link target is longer than 4095 bytes";
	memcpy(m->target, target, strlen(target) + 1);
	return NULL;
}

static const char *take_device(struct archive_entry *ae, struct entry *entry)
{
	dev_t major = archive_entry_rdevmajor(ae), minor = archive_entry_rdevminor(ae);

	if (major > RULES_MAJOR_MAX || minor > RULES_MINOR_MAX)
		return "its device number is too large";
	entry->rdev_major = (uint32_t)major;
	entry->rdev_minor = (uint32_t)minor;
	return NULL;
}

static const char *take_data(struct archive_entry *ae, uint64_t off, struct entry *entry)
{
	int64_t size = archive_entry_size(ae);

	if (archive_entry_sparse_count(ae) > 0)
		return "it is a sparse file, its data is not in one piece in the tar";
	if (size < 0 || (uint64_t)size > LIMIT_TAR_SIZE - off)
		return "its size is out of range";
	entry->size = (uint64_t)size;
	entry->tar_offset = off;
	return NULL;
}

static const char *take_file(struct archive_entry *ae, uint64_t off, struct entry *entry)
{
	const char *raw = archive_entry_pathname(ae);

	/* Old tars mark directories by the slash alone; libarchive reads no data then. */
	if (raw[strlen(raw) - 1] == '/') {
		entry->type = ENTRY_DIR;
		if (archive_entry_filetype(ae) == AE_IFREG && archive_entry_size(ae) > 0)
			return "it is a directory and has data";
		return NULL;
	}
	entry->type = ENTRY_REG;
	return take_data(ae, off, entry);
}

/* By the type flag. libarchive's idea of the type must agree: it may take more from a header. */
static const char *take_type(struct tarmember *m, struct archive_entry *ae, char flag, uint64_t off,
			     struct entry *entry)
{
	static const struct {
		mode_t filetype;
		enum entry_type type;
	} types[] = {
		['2'] = {AE_IFLNK, ENTRY_SYMLINK}, ['3'] = {AE_IFCHR, ENTRY_CHR},
		['4'] = {AE_IFBLK, ENTRY_BLK},     ['5'] = {AE_IFDIR, ENTRY_DIR},
		['6'] = {AE_IFIFO, ENTRY_FIFO},
	};

	if (flag == '1') {
		entry->type = ENTRY_HARDLINK;
		return take_target(m, archive_entry_hardlink(ae), entry);
	}
	if (archive_entry_hardlink(ae))
		return "it has a link target and is no link";
	if (flag == '0' || flag == '7')
		return take_file(ae, off, entry);
	if ((size_t)flag >= ARRAY_LEN(types) ||
	    types[(size_t)flag].filetype != archive_entry_filetype(ae))
		return "its type is unclear";
	entry->type = types[(size_t)flag].type;
	if (flag == '2')
		return take_target(m, archive_entry_symlink(ae), entry);
	return flag == '3' || flag == '4' ? take_device(ae, entry) : NULL;
}

const char *tarmember_take(struct tarmember *m, struct archive_entry *ae, char flag, uint64_t off,
			   struct entry *ret, bool *ret_show)
{
	const char *raw = archive_entry_pathname(ae);
	struct entry entry = {.path = m->path};
	const char *why;
	int marker;

	if (!raw || !raw[0])
		return "it has no name";
	why = normalise(raw, m->path);
	if (!why)
		why = take_type(m, ae, flag, off, &entry);
	if (why)
		return why;
	m->data_len = entry.size;
	marker = whiteout(m, &entry, &why);
	if (marker == 0)
		why = take_attributes(m, ae, &entry);
	else
		entry = (struct entry){.type = entry.type, .path = m->path};
	if (!why && marker >= 0)
		why = rules_entry(&entry, LIMIT_TAR_SIZE);
	*ret = entry;
	*ret_show = marker >= 0;
	return why;
}

void tarmember_free(struct tarmember *m)
{
	free(m->xattrs);
	m->xattrs = NULL;
}
