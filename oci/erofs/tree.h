/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OCI_EROFS_TREE_H
#define OCI_EROFS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "oci/erofs/arena.h"
#include "oci/erofs/names.h"

struct entry;
struct err;
struct index;

/*
 * The tree that a layer's entries mean, in memory. This is the only place that decides what
 * duplicates, missing parents, hard links and whiteouts come to:
 *
 * - The last entry with a name wins. A directory over a directory takes the new attributes and
 *   keeps what is in it; in every other case the old thing goes, with all below it. Other hard
 *   links to it keep it.
 * - A parent nobody named is a directory 0755 0:0, mtime 0. A parent that is anything else than a
 *   directory is refused: a symbolic link there would mean different things to different readers.
 * - A hard link names an earlier entry that is not a directory, and is still there.
 * - Whiteouts and opaque markers speak of the layers below and never hide what this layer has,
 *   before or after them (image-spec layer.md, "Whiteouts"). So they belong to the name, not to
 *   the thing: a name with nothing else becomes a character device 0:0, a directory becomes
 *   opaque, and for any other file they change nothing.
 *
 * Names and things are apart, as in any Unix file system. A name never goes away; when what it
 * names is replaced, it points to the new node. A directory that was replaced stays in memory,
 * unreachable with all its names, until the tree is freed.
 */

/* An entry of a directory. */
struct name {
	struct node *dir;            /* borrowed: the directory it is in; NULL for the root */
	struct node *node;           /* borrowed; NULL when only a whiteout is known */
	struct name *next_in_bucket; /* borrowed */
	struct name *next_in_dir;    /* borrowed */
	uint32_t hash;
	uint8_t len;
	bool hides;  /* whiteout or opaque marker: the lower layers do not show here */
	bool gone;   /* whiteout: they do not even lend a directory here their attributes */
	char text[]; /* @len bytes and a NUL */
};

struct dir {
	struct name *self;  /* borrowed: its name */
	struct name *names; /* borrowed: what is in it, latest first, without "." and ".." */
	/* After erofs_tree_finish(): all names with "." and "..", in the order of their bytes. */
	struct name **sorted; /* borrowed from the tree */
	size_t n;
};

/* A thing that names point to: an inode. */
struct node {
	uint16_t mode;  /* S_IFMT and permissions */
	bool opaque;    /* after erofs_tree_finish() */
	uint32_t nlink; /* after erofs_tree_finish() */
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_ns;
	union {
		uint32_t rdev;       /* devices, as i_u wants it */
		uint32_t target_len; /* symbolic links */
	};
	union {
		struct {
			uint64_t tar_off, size;
		} data;             /* regular files: bytes in the plain tar */
		const char *target; /* symbolic links; borrowed from the arena */
		struct dir dir;     /* directories */
	};
	const uint8_t *xattrs; /* borrowed from the arena; entries as xattr_encode() makes them */
	uint32_t xattrs_len;
	uint32_t entry; /* directories: which entry describes it, from 1; 0: nobody named it */
	uint64_t nid;   /* set by erofs_layout_make(); until then 0 */
};

struct erofs_tree {
	const char *what; /* borrowed: names the layer in errors */
	uint64_t tar_size;
	struct arena arena; /* nodes, names, targets, attributes */
	struct names names;
	struct name *root; /* borrowed from the arena */
	size_t nnodes;     /* made so far, the unreachable ones too */
	uint32_t nentries; /* added so far */
	/* After erofs_tree_finish(): every reachable node once, directories before what is in them.
	 */
	struct node **nodes; /* owned; the root is the first */
	size_t n;
	struct name **sorted; /* owned: what the directories' arrays are cut from */
};

/*
 * An empty tree: a root 0755 0:0. Data must lie within [0, @tar_size). @what is borrowed for the
 * tree's life.
 */
int erofs_tree_new(const char *what, uint64_t tar_size, struct erofs_tree **ret);
struct erofs_tree *erofs_tree_free(struct erofs_tree *t); /* NULL-safe; returns NULL */

/* Adds an entry; copies what it keeps. After a failure the tree is good for erofs_tree_free() only.
 */
int erofs_tree_add(struct erofs_tree *t, const struct entry *en, struct err *e);

/* After the last entry: collects what is reachable, sorts the names, counts the links. */
int erofs_tree_finish(struct erofs_tree *t, struct err *e);

/*
 * The finished tree of a layer's index, whose entries are checked on the way. -EBADMSG for those
 * that do not come to a tree. @what as above.
 */
int erofs_tree_of_index(const struct index *ix, const char *what, struct erofs_tree **ret,
			struct err *e);

/*
 * The path of a name that is in its directory's list, as entries have it, written into the end of
 * @out, and cut at its front when it is longer. Returns where it starts.
 */
const char *erofs_tree_path(const struct name *name, char *out, size_t size);

/*
 * For the two halves of the tree alone: a name that is in no table and no directory's list yet.
 * @len is at most 255. NULL when out of memory.
 */
struct name *erofs_tree_name_new(struct erofs_tree *t, struct node *dir, const char *s, size_t len);

static inline bool node_is_dir(const struct node *node)
{
	return node && S_ISDIR(node->mode);
}

/* "." and "..", which erofs_tree_finish() puts in; no entry has such a name. */
static inline bool name_is_dot(const struct name *name)
{
	return name->text[0] == '.' && (name->len == 1 || (name->len == 2 && name->text[1] == '.'));
}

static inline void erofs_tree_freep(struct erofs_tree **t)
{
	erofs_tree_free(*t);
}

#endif
