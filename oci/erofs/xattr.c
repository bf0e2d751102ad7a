/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/xattr.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/erofs/disk.h"
#include "oci/index/entry.h"

const uint8_t xattr_opaque[] = {
	14,  EROFS_XATTR_TRUSTED,
	1,   0,
	'o', 'v',
	'e', 'r',
	'l', 'a',
	'y', '.',
	'o', 'p',
	'a', 'q',
	'u', 'e',
	'y', 0,
};
const size_t xattr_opaque_len = sizeof(xattr_opaque);

static_assert(sizeof(xattr_opaque) == 20, "a multiple of 4");

/* ACLs are whole names: their entries have the index and an empty name. */
static const struct namespace
{
	const char *prefix;
	uint8_t index;
	bool whole;
}
namespaces[] = {
	{"user.", EROFS_XATTR_USER, false},
	{"trusted.", EROFS_XATTR_TRUSTED, false},
	{"security.", EROFS_XATTR_SECURITY, false},
	{"system.posix_acl_access", EROFS_XATTR_ACL_ACCESS, true},
	{"system.posix_acl_default", EROFS_XATTR_ACL_DEFAULT, true},
};

static const struct namespace *namespace_of(const char *name, const char **ret_rest)
{
	for (size_t i = 0; i < ARRAY_LEN(namespaces); i++) {
		const struct namespace *ns = &namespaces[i];
		size_t len = strlen(ns->prefix);

		if (strncmp(name, ns->prefix, len) != 0 || ns->whole != (name[len] == '\0'))
			continue;
		*ret_rest = name + len;
		return ns;
	}
	return NULL;
}

static bool is_overlay(const char *name)
{
	return strncmp(name, "trusted.overlay.", 16) == 0 ||
	       strncmp(name, "user.overlay.", 13) == 0;
}

static int encode_one(const struct entry_xattr *x, struct buf *out, struct err *e)
{
	struct erofs_xattr_entry head = {0};
	const struct namespace *ns;
	const char *rest;
	size_t len;

	ns = namespace_of(x->name, &rest);
	if (!ns)
		return err_set(e, -EBADMSG, "EROFS has no place for the attribute '%.260s'",
			       x->name);
	len = strlen(rest);
	if (strlen(x->name) > LIMIT_XATTR_NAME || x->value_len > LIMIT_XATTR_VALUE)
		return err_set(e, -EBADMSG, "the attribute '%.260s' is too long", x->name);
	head.name_len = (uint8_t)len;
	head.name_index = ns->index;
	head.value_size = htole16((uint16_t)x->value_len);
	buf_put(out, &head, sizeof(head));
	buf_put(out, rest, len);
	buf_put(out, x->value, x->value_len);
	/* The buffer starts empty, so its multiples of 4 are the entry's. */
	buf_pad_to(out, 4);
	return 0;
}

int xattr_encode(const struct entry *en, struct buf *out, struct err *e)
{
	size_t room = EROFS_XATTR_BODY_MAX - sizeof(struct erofs_xattr_body) - xattr_opaque_len;

	buf_clear(out);
	for (uint32_t i = 0; i < en->nxattrs; i++) {
		int r = is_overlay(en->xattrs[i].name) ? 0 : encode_one(&en->xattrs[i], out, e);

		if (r < 0)
			return r;
		if (out->failed == -ENOMEM)
			return err_errno(e, -ENOMEM, "cannot keep the attributes");
		if (out->failed || out->len > room)
			return err_set(e, -EBADMSG,
				       "more attributes than fit one inode (%zu bytes)", room);
	}
	return 0;
}

uint32_t xattr_body_len(size_t encoded, bool opaque)
{
	size_t len = encoded + (opaque ? xattr_opaque_len : 0);

	return len ? (uint32_t)(sizeof(struct erofs_xattr_body) + len) : 0;
}
