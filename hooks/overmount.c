/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/overmount.h"

#include "hooks/mnt.h"
#include "hooks/tree.h"
#include "oci/base/err.h"

int overmount(const struct target *t, int image, struct err *e)
{
	_cleanup_tree_ struct tree tr = {0};
	int r = tree_find(t, &tr, e);

	if (r < 0)
		return r;
	r = mnt_set_private(image);
	if (r == 0)
		r = mnt_move(image, t->rootfs);
	if (r < 0)
		return err_errno(e, r, "mounting the image at %.300s", t->path);
	r = tree_place(&tr, image, e);
	return r < 0 ? r : tree_verify(&tr, image, e);
}
