/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/limits.h"
#include "oci/erofs/disk.h"
#include "oci/erofs/xattr.h"
#include "oci/index/entry.h"

/* The kernel's new_encode_dev(): 12 bits of major number, 20 of minor. */
#define MAJOR_MAX 0xfffu
#define MINOR_MAX 0xfffffu

/* How much of a path goes into an error, so that the reason behind it is not cut off. */
#define PATH_SHOWN "%.200s"

static int refuse(const struct erofs_tree *t, const struct entry *en, struct err *e,
		  const char *why)
{
	return err_set(e, -EBADMSG, "%s: entry '" PATH_SHOWN "': %s", t->what, en->path, why);
}

static int no_memory(const struct erofs_tree *t, struct err *e)
{
	return err_errno(e, -ENOMEM, "%s: cannot build the tree", t->what);
}

/* What S_IFMT says of it; 0 for what is not a file of its own. */
static uint16_t type_bits(enum entry_type type)
{
	switch (type) {
	case ENTRY_REG:
		return S_IFREG;
	case ENTRY_DIR:
		return S_IFDIR;
	case ENTRY_SYMLINK:
		return S_IFLNK;
	case ENTRY_CHR:
		return S_IFCHR;
	case ENTRY_BLK:
		return S_IFBLK;
	case ENTRY_FIFO:
		return S_IFIFO;
	default:
		return 0;
	}
}

/* --- names --- */

struct name *erofs_tree_name_new(struct erofs_tree *t, struct node *dir, const char *s, size_t len)
{
	struct name *name = arena_alloc(&t->arena, sizeof(*name) + len + 1);

	if (!name)
		return NULL;
	name->dir = dir;
	name->len = (uint8_t)len;
	memcpy(name->text, s, len);
	return name;
}

static int name_get(struct erofs_tree *t, struct node *dir, const char *s, size_t len,
		    struct name **ret)
{
	uint32_t hash = names_hash(&t->names, dir, s, len);
	struct name *name = names_find(&t->names, hash, dir, s, len);

	if (!name) {
		name = erofs_tree_name_new(t, dir, s, len);
		if (!name)
			return -ENOMEM;
		name->hash = hash;
		if (names_add(&t->names, name) < 0)
			return -ENOMEM;
		name->next_in_dir = dir->dir.names;
		dir->dir.names = name;
	}
	*ret = name;
	return 0;
}

/*
 * The next component of *@path, which moves on behind it and its '/'. The entry's maker promises
 * clean paths; a name with '/' or a second ".." would be the kernel's to trip over, so look.
 */
static int component(const char **path, const char **ret, size_t *ret_len)
{
	const char *s = *path;
	size_t len = strcspn(s, "/");

	if (len == 0 || len > LIMIT_FILE_NAME || (s[len] == '/' && s[len + 1] == '\0'))
		return -EBADMSG;
	if (s[0] == '.' && (len == 1 || (len == 2 && s[1] == '.')))
		return -EBADMSG;
	*path = s[len] ? s + len + 1 : s + len;
	*ret = s;
	*ret_len = len;
	return 0;
}

/* --- nodes --- */

/* What the tree may grow to: parents that nobody named count too. */
static int node_new(struct erofs_tree *t, const struct entry *en, struct node **ret, struct err *e)
{
	struct node *node;

	if (t->nnodes >= LIMIT_ENTRIES)
		return err_set(e, -EFBIG, "%s: entry '" PATH_SHOWN "': more than %u files", t->what,
			       en->path, LIMIT_ENTRIES);
	node = arena_alloc(&t->arena, sizeof(*node));
	if (!node)
		return no_memory(t, e);
	t->nnodes++;
	*ret = node;
	return 0;
}

/* Makes the directory that @name needs to be when something lies in it. */
static int parent_make(struct erofs_tree *t, const struct entry *en, struct name *name,
		       struct err *e)
{
	struct node *node = NULL;
	int r = node_new(t, en, &node, e);

	if (r < 0)
		return r;
	node->mode = S_IFDIR | 0755;
	node->dir.self = name;
	name->node = node;
	return 0;
}

/* Walks to the directory that @en lies in, making what is missing, and to its own name there. */
static int name_of_entry(struct erofs_tree *t, const struct entry *en, struct name **ret,
			 struct err *e)
{
	struct name *name = t->root;
	const char *path = en->path;

	for (unsigned int depth = 0; *path; depth++) {
		const char *s;
		size_t len;
		int r = 0;

		if (depth >= LIMIT_TREE_DEPTH)
			return refuse(t, en, e, "nested too deeply");
		if (component(&path, &s, &len) < 0)
			return refuse(t, en, e, "the path is not a clean one");
		if (!name->node)
			r = parent_make(t, en, name, e);
		if (r < 0)
			return r;
		if (!node_is_dir(name->node))
			return refuse(t, en, e,
				      S_ISLNK(name->node->mode)
					      ? "a parent directory is a symbolic link"
					      : "a parent directory is a file");
		if (name_get(t, name->node, s, len, &name) < 0)
			return no_memory(t, e);
	}
	*ret = name;
	return 0;
}

/* The node that a hard link names, or NULL when there is no such thing. */
static struct node *node_at(struct erofs_tree *t, const char *path)
{
	struct name *name = t->root;

	while (*path) {
		const char *s;
		size_t len;

		if (component(&path, &s, &len) < 0 || !node_is_dir(name->node))
			return NULL;
		name = names_find(&t->names, names_hash(&t->names, name->node, s, len), name->node,
				  s, len);
		if (!name)
			return NULL;
	}
	return name->node;
}

/* --- what one entry says --- */

static int set_data(struct erofs_tree *t, const struct entry *en, struct node *node, struct err *e)
{
	/* An empty file may lie anywhere: nothing is read there. */
	if (en->size && (en->tar_offset % EROFS_BLOCK || en->size > t->tar_size ||
			 en->tar_offset > t->tar_size - en->size))
		return refuse(t, en, e, "the data is not at a block of the tar");
	node->data.tar_off = en->size ? en->tar_offset : 0;
	node->data.size = en->size;
	return 0;
}

static int set_target(struct erofs_tree *t, const struct entry *en, struct node *node,
		      struct err *e)
{
	size_t len = en->target ? strlen(en->target) : 0;

	if (len == 0 || len >= LIMIT_PATH)
		return refuse(t, en, e, "a symbolic link of no or too many bytes");
	node->target = arena_strndup(&t->arena, en->target, len);
	if (!node->target)
		return no_memory(t, e);
	node->target_len = (uint32_t)len;
	return 0;
}

static int set_rdev(struct erofs_tree *t, const struct entry *en, struct node *node, struct err *e)
{
	uint32_t major = en->rdev_major, minor = en->rdev_minor;

	if (major > MAJOR_MAX || minor > MINOR_MAX)
		return refuse(t, en, e, "a device number that Linux does not have");
	node->rdev = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
	return 0;
}

static int set_xattrs(struct erofs_tree *t, const struct entry *en, struct node *node,
		      struct err *e)
{
	_cleanup_buf_ struct buf out = {.max = EROFS_XATTR_BODY_MAX};
	int r;

	node->xattrs = NULL;
	node->xattrs_len = 0;
	if (en->nxattrs == 0)
		return 0;
	r = xattr_encode(en, &out, e);
	if (r < 0)
		return err_wrap(e, r, "%s: entry '" PATH_SHOWN "'", t->what, en->path);
	if (out.len == 0)
		return 0;
	node->xattrs = (const uint8_t *)arena_strndup(&t->arena, (const char *)out.data, out.len);
	if (!node->xattrs)
		return no_memory(t, e);
	node->xattrs_len = (uint32_t)out.len;
	return 0;
}

static int node_fill(struct erofs_tree *t, const struct entry *en, struct node *node, struct err *e)
{
	int r = 0;

	/* Linux has one mode for symbolic links (symlink(7)), whatever their tar entries say. */
	node->mode = (uint16_t)(type_bits(en->type) |
				(en->type == ENTRY_SYMLINK ? 0777 : en->mode & 07777));
	node->uid = en->uid;
	node->gid = en->gid;
	node->mtime = en->mtime;
	node->mtime_ns = en->mtime_ns;
	if (en->mtime_ns >= 1000000000)
		return refuse(t, en, e, "a modification time that is none");
	switch (en->type) {
	case ENTRY_REG:
		r = set_data(t, en, node, e);
		break;
	case ENTRY_SYMLINK:
		r = set_target(t, en, node, e);
		break;
	case ENTRY_CHR:
	case ENTRY_BLK:
		r = set_rdev(t, en, node, e);
		break;
	default:
		break;
	}
	return r < 0 ? r : set_xattrs(t, en, node, e);
}

static int add_node(struct erofs_tree *t, const struct entry *en, struct name *name, struct err *e)
{
	struct node *node = name->node;
	int r = 0;

	if (en->type != ENTRY_DIR || !node_is_dir(node))
		r = node_new(t, en, &node, e);
	if (r == 0)
		r = node_fill(t, en, node, e);
	if (r < 0)
		return r;
	if (en->type == ENTRY_DIR) {
		node->dir.self = name;
		node->entry = t->nentries;
	}
	name->node = node;
	return 0;
}

static int add_link(struct erofs_tree *t, const struct entry *en, struct err *e)
{
	struct node *node = en->target ? node_at(t, en->target) : NULL;
	struct name *name;
	int r;

	if (!node)
		return refuse(t, en, e, "a hard link to nothing that came before it");
	if (node_is_dir(node))
		return refuse(t, en, e, "a hard link to a directory");
	r = name_of_entry(t, en, &name, e);
	if (r == 0)
		name->node = node;
	return r;
}

/* A marker makes the directory it lies in, as any other file in it would. */
static int add_opaque(struct erofs_tree *t, const struct entry *en, struct name *name,
		      struct err *e)
{
	int r = name->node ? 0 : parent_make(t, en, name, e);

	if (r < 0)
		return r;
	if (!node_is_dir(name->node))
		return refuse(t, en, e, "an opaque marker in what is not a directory");
	name->hides = true;
	return 0;
}

int erofs_tree_add(struct erofs_tree *t, const struct entry *en, struct err *e)
{
	struct name *name;
	int r;

	t->nentries++;
	if (en->type == ENTRY_HARDLINK && en->path[0])
		return add_link(t, en, e);
	if (en->path[0] == '\0' && en->type != ENTRY_DIR && en->type != ENTRY_OPAQUE)
		return refuse(t, en, e, "the root can only be a directory");
	r = name_of_entry(t, en, &name, e);
	if (r < 0)
		return r;
	if (en->type == ENTRY_WHITEOUT) {
		name->hides = name->gone = true;
		return 0;
	}
	if (en->type == ENTRY_OPAQUE)
		return add_opaque(t, en, name, e);
	if (!type_bits(en->type))
		return refuse(t, en, e, "an entry of no known type");
	return add_node(t, en, name, e);
}

int erofs_tree_new(const char *what, uint64_t tar_size, struct erofs_tree **ret)
{
	static const struct entry root = {.type = ENTRY_DIR, .path = ""};
	_cleanup_(erofs_tree_freep) struct erofs_tree *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->what = what;
	t->tar_size = tar_size;
	r = names_init(&t->names);
	if (r < 0)
		return r;
	t->root = erofs_tree_name_new(t, NULL, "", 0);
	if (!t->root)
		return -ENOMEM;
	r = parent_make(t, &root, t->root, NULL);
	if (r < 0)
		return r;
	*ret = take_ptr(t);
	return 0;
}

struct erofs_tree *erofs_tree_free(struct erofs_tree *t)
{
	if (!t)
		return NULL;
	names_done(&t->names);
	arena_free(&t->arena);
	free(t->nodes);
	free(t->sorted);
	free(t);
	return NULL;
}
