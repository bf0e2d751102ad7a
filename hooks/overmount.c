/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/overmount.h"

#include <errno.h>

#include "hooks/mnt.h"
#include "hooks/tree.h"
#include "oci/base/err.h"

static int attach(const struct target *t, int image, struct err *e)
{
	int r = mnt_move(image, t->rootfs);

	return r < 0 ? err_errno(e, r, "mounting the image at %.300s", t->path) : 0;
}

int overmount(const struct target *t, int image, const char *cwd, struct err *e)
{
	_cleanup_tree_ struct tree tr = {0};
	bool attach_first = false;
	int r = tree_copy(t, &tr, e);

	if (r < 0)
		return r;
	r = mnt_set_private(image);
	if (r < 0)
		return err_errno(e, r, "making the image's mount private");
	r = tree_place(&tr, image, cwd, &attach_first, e);
	if (r < 0 && !attach_first)
		return r;
	r = attach(t, image, e);
	if (r == 0 && attach_first)
		r = tree_place(&tr, image, cwd, NULL, e);
	return r < 0 ? r : tree_verify(&tr, t, image, e);
}
