/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/erofs/extents.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "oci/base/buf.h"
#include "oci/base/bytes.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/limits.h"
#include "oci/erofs/crc32c.h"
#include "oci/erofs/disk.h"
#include "oci/erofs/out.h"
#include "oci/erofs/tree.h"

static const uint8_t magic[8] = "TARNEXT\1";

/* --- writing --- */

static int by_tar_off(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	if (x->tar_off != y->tar_off)
		return x->tar_off < y->tar_off ? -1 : 1;
	return x->nid < y->nid ? -1 : x->nid > y->nid;
}

/* A path of the inode @nid, only for errors: the first that is found. */
static const char *path_of_nid(const struct erofs_tree *t, uint64_t nid, char *out, size_t size)
{
	for (size_t i = 0; i < t->n; i++) {
		const struct node *node = t->nodes[i];

		for (size_t j = 0; node_is_dir(node) && j < node->dir.n; j++)
			if (node->dir.sorted[j]->node->nid == nid)
				return erofs_tree_path(node->dir.sorted[j], out, size);
	}
	return "?";
}

static int check_overlap(const struct erofs_tree *t, const struct extent *v, size_t n,
			 struct err *e)
{
	char one[160], other[160];

	for (size_t i = 1; i < n; i++)
		if (v[i].tar_off - v[i - 1].tar_off < v[i - 1].size)
			return err_set(e, -EBADMSG,
				       "%s: the data of entry '%s' and of entry '%s' overlap",
				       t->what, path_of_nid(t, v[i - 1].nid, one, sizeof(one)),
				       path_of_nid(t, v[i].nid, other, sizeof(other)));
	return 0;
}

int extents_of_tree(const struct erofs_tree *t, struct extent **ret, size_t *ret_n, struct err *e)
{
	_cleanup_free_ struct extent *v = NULL;
	size_t n = 0;
	int r;

	v = calloc(t->n, sizeof(*v));
	if (!v)
		return err_errno(e, -ENOMEM, "%s: cannot list the extents", t->what);
	for (size_t i = 0; i < t->n; i++) {
		const struct node *node = t->nodes[i];

		if (S_ISREG(node->mode) && node->data.size)
			v[n++] = (struct extent){
				.tar_off = node->data.tar_off,
				.size = node->data.size,
				.nid = node->nid,
			};
	}
	qsort(v, n, sizeof(*v), by_tar_off);
	r = check_overlap(t, v, n, e);
	if (r < 0)
		return r;
	*ret = take_ptr(v);
	*ret_n = n;
	return 0;
}

static uint32_t put_summed(struct out *o, uint32_t crc, const void *data, size_t len)
{
	out_put(o, data, len);
	return crc32c(crc, data, len);
}

int extents_put(struct out *o, const struct extent *v, size_t n, const struct index *ix)
{
	_cleanup_buf_ struct buf footer = {.max = EXTENT_FOOTER_SIZE};
	uint32_t crc = CRC32C_INIT;

	for (size_t i = 0; i < n; i++) {
		uint64_t words[3] = {htole64(v[i].tar_off), htole64(v[i].size), htole64(v[i].nid)};

		crc = put_summed(o, crc, words, sizeof(words));
	}
	buf_put(&footer, magic, sizeof(magic));
	buf_put_le64(&footer, n);
	buf_put_le64(&footer, ix->tar_size);
	buf_put(&footer, ix->diff_id.sum, DIGEST_SIZE);
	buf_put_le32(&footer, 0);
	if (footer.failed)
		return footer.failed;
	crc = htole32(put_summed(o, crc, footer.data, footer.len));
	out_put(o, &crc, sizeof(crc));
	return 0;
}

/* --- reading --- */

static int bad(struct err *e, const char *why)
{
	return err_set(e, -EBADMSG, "the image's extent table: %s", why);
}

/* Where the table is, from the footer; the checksum is left for when the table has been read. */
static int read_footer(int fd, struct extents *x, uint64_t *ret_pos, struct err *e)
{
	uint8_t data[EXTENT_FOOTER_SIZE];
	struct bytes b = bytes_of(data, sizeof(data));
	struct stat st;
	uint64_t size, n;
	int r;

	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot read the image");
	size = (uint64_t)st.st_size;
	if (!S_ISREG(st.st_mode) || size < sizeof(data))
		return bad(e, "there is none");
	size -= sizeof(data);
	r = fd_pread_full(fd, data, sizeof(data), size);
	if (r < 0)
		return err_errno(e, r, "cannot read the image");
	if (memcmp(bytes_take(&b, sizeof(magic)), magic, sizeof(magic)) != 0)
		return bad(e, "there is none");
	n = bytes_le64(&b);
	x->tar_size = bytes_le64(&b);
	bytes_copy(&b, x->diff_id.sum, DIGEST_SIZE);
	if (n > size / EXTENT_SIZE || n > LIMIT_ENTRIES)
		return bad(e, "it is longer than the image");
	x->n = (size_t)n;
	*ret_pos = size - n * EXTENT_SIZE;
	return *ret_pos % EROFS_BLOCK ? bad(e, "it does not start at a block") : 0;
}

static int check_sum(const uint8_t *table, size_t len, struct err *e)
{
	size_t summed = len - sizeof(uint32_t);
	struct bytes b = bytes_of(table + summed, sizeof(uint32_t));

	if (crc32c(CRC32C_INIT, table, summed) != bytes_le32(&b))
		return bad(e, "its checksum does not match");
	return 0;
}

static int check_order(const struct extents *x, uint64_t image_end, struct err *e)
{
	uint64_t free_from = 0;

	for (size_t i = 0; i < x->n; i++) {
		const struct extent *v = &x->v[i];

		if (v->size == 0 || v->tar_off < free_from || v->tar_off > x->tar_size ||
		    v->size > x->tar_size - v->tar_off)
			return bad(e, "an extent is not where it can be");
		if (v->nid >= image_end / EROFS_NID_SIZE)
			return bad(e, "an inode lies outside of the image");
		free_from = v->tar_off + v->size;
	}
	return 0;
}

static int by_nid(const void *a, const void *b, void *ctx)
{
	const struct extent *v = ctx;
	uint64_t x = v[*(const uint32_t *)a].nid;
	uint64_t y = v[*(const uint32_t *)b].nid;

	return x < y ? -1 : x > y;
}

static int sort_by_nid(struct extents *x, struct err *e)
{
	for (size_t i = 0; i < x->n; i++)
		x->by_nid[i] = (uint32_t)i;
	qsort_r(x->by_nid, x->n, sizeof(*x->by_nid), by_nid, x->v);
	for (size_t i = 1; i < x->n; i++)
		if (x->v[x->by_nid[i]].nid == x->v[x->by_nid[i - 1]].nid)
			return bad(e, "an inode has two extents");
	return 0;
}

static int read_table(int fd, uint64_t pos, struct extents *x, struct err *e)
{
	size_t len = x->n * EXTENT_SIZE + EXTENT_FOOTER_SIZE;
	_cleanup_free_ uint8_t *table = malloc(len);
	struct bytes b;
	int r;

	x->v = calloc(x->n + 1, sizeof(*x->v));
	x->by_nid = calloc(x->n + 1, sizeof(*x->by_nid));
	if (!table || !x->v || !x->by_nid)
		return err_errno(e, -ENOMEM, "cannot read the extent table");
	r = fd_pread_full(fd, table, len, pos);
	if (r < 0)
		return err_errno(e, r, "cannot read the image");
	r = check_sum(table, len, e);
	if (r < 0)
		return r;
	b = bytes_of(table, len);
	for (size_t i = 0; i < x->n; i++) {
		x->v[i].tar_off = bytes_le64(&b);
		x->v[i].size = bytes_le64(&b);
		x->v[i].nid = bytes_le64(&b);
	}
	r = check_order(x, pos, e);
	return r < 0 ? r : sort_by_nid(x, e);
}

int extents_load(int image_fd, struct extents *ret, struct err *e)
{
	struct extents x = {0};
	uint64_t pos = 0;
	int r;

	r = read_footer(image_fd, &x, &pos, e);
	if (r == 0)
		r = read_table(image_fd, pos, &x, e);
	if (r < 0) {
		extents_free(&x);
		return r;
	}
	*ret = x;
	return 0;
}

void extents_free(struct extents *x)
{
	if (!x)
		return;
	free(x->v);
	free(x->by_nid);
	*x = (struct extents){0};
}

size_t extents_first(const struct extents *x, uint64_t off)
{
	size_t lo = 0, hi = x->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (x->v[mid].tar_off + x->v[mid].size > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

const struct extent *extents_by_nid(const struct extents *x, uint64_t nid)
{
	size_t lo = 0, hi = x->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct extent *v = &x->v[x->by_nid[mid]];

		if (v->nid == nid)
			return v;
		if (v->nid < nid)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}
