/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/index/rules.h"

#include <string.h>

#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/limits.h"
#include "oci/index/entry.h"

const char *rules_path(const char *path)
{
	size_t total = strlen(path);
	const char *p = path;

	if (total == 0)
		return NULL;
	if (total >= LIMIT_PATH)
		return "the path is longer than 4095 bytes";
	for (;;) {
		size_t n = strcspn(p, "/");

		if (n == 0)
			return "the path has an empty component";
		if (n > LIMIT_FILE_NAME)
			return "a name in the path is longer than 255 bytes";
		if (p[0] == '.' && (n == 1 || (n == 2 && p[1] == '.')))
			return "the path has a component \".\" or \"..\"";
		if (!p[n])
			return NULL;
		p += n + 1;
	}
}

bool rules_xattr(const char *name)
{
	static const char *const namespaces[] = {"user.", "trusted.", "security."};
	static const char *const overlay[] = {"user.overlay.", "trusted.overlay."};

	if (strlen(name) > LIMIT_XATTR_NAME)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(overlay); i++)
		if (strncmp(name, overlay[i], strlen(overlay[i])) == 0)
			return false;
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
		size_t n = strlen(namespaces[i]);

		if (strncmp(name, namespaces[i], n) == 0)
			return name[n] != '\0';
	}
	return strcmp(name, "system.posix_acl_access") == 0 ||
	       strcmp(name, "system.posix_acl_default") == 0;
}

static const char *check_xattrs(const struct entry *entry)
{
	if (entry->nxattrs > LIMIT_XATTRS)
		return "there are more than 1024 extended attributes";
	for (uint32_t i = 0; i < entry->nxattrs; i++) {
		const struct entry_xattr *x = &entry->xattrs[i];

		if (!rules_xattr(x->name))
			return "an extended attribute's name is not one we carry";
		if (x->value_len > LIMIT_XATTR_VALUE)
			return "an extended attribute is larger than 65535 bytes";
		if (i > 0 && strcmp(entry->xattrs[i - 1].name, x->name) >= 0)
			return "the extended attributes are not sorted";
	}
	return NULL;
}

static const char *check_target(const struct entry *entry)
{
	const char *target = entry->target;

	if (entry->type != ENTRY_SYMLINK && entry->type != ENTRY_HARDLINK)
		return target ? "it has a link target and is no link" : NULL;
	if (!target || !target[0])
		return "the link target is empty";
	if (strlen(target) >= LIMIT_PATH)
		return "the link target is longer than 4095 bytes";
	return entry->type == ENTRY_HARDLINK ? rules_path(target) : NULL;
}

static const char *check_data(const struct entry *entry, uint64_t tar_size)
{
	uint64_t end;

	if (entry->type != ENTRY_REG)
		return entry->size || entry->tar_offset ? "it has data and is no file" : NULL;
	if (entry->tar_offset % 512)
		return "the data does not start at a multiple of 512";
	if (!add_ok(entry->tar_offset, entry->size, &end) || end > tar_size)
		return "the data reaches past the end of the tar";
	return NULL;
}

static const char *check_device(const struct entry *entry)
{
	if (entry->type != ENTRY_CHR && entry->type != ENTRY_BLK)
		return entry->rdev_major || entry->rdev_minor
			       ? "it has a device number and is no device"
			       : NULL;
	if (entry->rdev_major > RULES_MAJOR_MAX || entry->rdev_minor > RULES_MINOR_MAX)
		return "the device number is too large";
	return NULL;
}

/* A whiteout is a name and nothing else. */
static const char *check_marker(const struct entry *entry)
{
	if (entry->mode || entry->uid || entry->gid || entry->mtime || entry->mtime_ns ||
	    entry->nxattrs)
		return "a whiteout has no attributes";
	return NULL;
}

const char *rules_entry(const struct entry *entry, uint64_t tar_size)
{
	const char *why;

	if (entry->type < ENTRY_REG || entry->type > ENTRY_OPAQUE)
		return "the type is unknown";
	why = rules_path(entry->path);
	if (why)
		return why;
	if (!entry->path[0] && entry->type != ENTRY_DIR && entry->type != ENTRY_OPAQUE)
		return "the root is not a directory";
	if (entry->mode > 07777)
		return "the mode has more than permission bits";
	if (entry->mtime_ns >= 1000000000)
		return "the time has more than 999999999 nanoseconds";
	if (entry->type == ENTRY_WHITEOUT || entry->type == ENTRY_OPAQUE)
		why = check_marker(entry);
	if (!why)
		why = check_target(entry);
	if (!why)
		why = check_data(entry, tar_size);
	if (!why)
		why = check_device(entry);
	return why ? why : check_xattrs(entry);
}
