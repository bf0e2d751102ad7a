/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_ENTRY_LIST_H
#define TESTS_UNIT_ENTRY_LIST_H

/*
 * Entries as people write them, one a line:
 *
 *   TYPE PATH [mode=OCTAL] [uid=N] [gid=N] [mtime=SECONDS] [ns=N] [size=N] [at=OFFSET] [to=TEXT]
 *        [dev=MAJOR:MINOR] [x:NAME=TEXT]...
 *
 * TYPE is reg, dir, symlink, link, chr, blk, fifo, whiteout or opaque; the root is "/"; a line
 * that starts with '#' is a comment. Attributes are given in the order of their names. A word of
 * the form "C*N" after a path's last '/' or after to= stands for N times the character C.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/index/entry.h"

#define ENTRY_LIST_XATTRS 16

struct entry_line {
	struct entry entry;
	struct entry_xattr xattrs[ENTRY_LIST_XATTRS];
	char path[8192], target[8192], text[16384];
};

static inline void entry_list_fail(const char *what, const char *word)
{
	printf("# entry list: %s: %s\n", what, word);
	abort();
}

/* Copies @s; a last component "C*N" becomes N times C. */
static inline char *entry_list_text(char *dst, size_t size, const char *s)
{
	const char *base = strrchr(s, '/');
	size_t len = strlen(s), n;

	base = base ? base + 1 : s;
	if (len >= size)
		entry_list_fail("too long", s);
	memcpy(dst, s, len + 1);
	if (base[0] && base[1] == '*' && base[2]) {
		n = strtoul(base + 2, NULL, 10);
		if ((size_t)(base - s) + n >= size)
			entry_list_fail("too long", s);
		memset(dst + (base - s), base[0], n);
		dst[(size_t)(base - s) + n] = '\0';
	}
	return dst;
}

static inline enum entry_type entry_list_type(const char *s)
{
	static const char *const types[] = {"",    "reg", "dir",  "symlink",  "link",
					    "chr", "blk", "fifo", "whiteout", "opaque"};

	for (size_t i = 1; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(s, types[i]) == 0)
			return (enum entry_type)i;
	entry_list_fail("unknown type", s);
	return ENTRY_REG;
}

static inline void entry_list_word(struct entry_line *l, char *word)
{
	struct entry *en = &l->entry;
	char *value = strchr(word, '=');
	char *colon;

	if (!value)
		entry_list_fail("no value", word);
	*value++ = '\0';
	if (word[0] == 'x' && word[1] == ':') {
		l->xattrs[en->nxattrs++] = (struct entry_xattr){
			.name = word + 2, .value = value, .value_len = (uint32_t)strlen(value)};
		en->xattrs = l->xattrs;
	} else if (strcmp(word, "to") == 0) {
		en->target = entry_list_text(l->target, sizeof(l->target), value);
	} else if (strcmp(word, "mode") == 0) {
		en->mode = (uint32_t)strtoul(value, NULL, 8);
	} else if (strcmp(word, "uid") == 0) {
		en->uid = (uint32_t)strtoul(value, NULL, 10);
	} else if (strcmp(word, "gid") == 0) {
		en->gid = (uint32_t)strtoul(value, NULL, 10);
	} else if (strcmp(word, "mtime") == 0) {
		en->mtime = strtoll(value, NULL, 10);
	} else if (strcmp(word, "ns") == 0) {
		en->mtime_ns = (uint32_t)strtoul(value, NULL, 10);
	} else if (strcmp(word, "size") == 0) {
		en->size = strtoull(value, NULL, 10);
	} else if (strcmp(word, "at") == 0) {
		en->tar_offset = strtoull(value, NULL, 10);
	} else if (strcmp(word, "dev") == 0) {
		en->rdev_major = (uint32_t)strtoul(value, &colon, 10);
		en->rdev_minor = (uint32_t)strtoul(colon + 1, NULL, 10);
	} else {
		entry_list_fail("unknown key", word);
	}
}

/* The next entry of *@list into @l, or false at the end. */
static inline bool entry_list_next(const char **list, struct entry_line *l)
{
	char *rest = l->text, *word;
	size_t len;

	do {
		len = strcspn(*list, "\n");
		if (len >= sizeof(l->text))
			entry_list_fail("line too long", *list);
		memcpy(l->text, *list, len);
		l->text[len] = '\0';
		*list += len + ((*list)[len] == '\n');
	} while ((len == 0 || l->text[0] == '#') && **list);
	if (len == 0 || l->text[0] == '#')
		return false;
	l->entry = (struct entry){.type = entry_list_type(strsep(&rest, " "))};
	word = strsep(&rest, " ");
	if (!word)
		entry_list_fail("no path", l->text);
	entry_list_text(l->path, sizeof(l->path), word);
	l->entry.path = strcmp(l->path, "/") == 0 ? "" : l->path;
	while ((word = strsep(&rest, " ")))
		entry_list_word(l, word);
	return true;
}

#endif
