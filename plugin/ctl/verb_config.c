/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "plugin/ctl/proto.h"
#include "plugin/ctl/target.h"
#include "plugin/ctl/verbs.h"
#include "plugin/store/images.h"
#include "plugin/store/kept.h"

/* The config as it came, for whoever makes a container: nothing in it is looked at here. */
int verb_config(struct ctl_task *t, struct json_gen *done, struct err *e)
{
	const char *image = arg_str(t, "image", e);
	_cleanup_(record_freep) struct record *rec = NULL;
	char text[DIGEST_TEXT];
	struct keep_file f;
	int fd, r;

	if (!image)
		return CTL_USAGE;
	r = image_find(t->en, image, &rec, e);
	if (r < 0)
		return r;
	f = file_of(KEEP_BLOB, &rec->config.digest);
	r = file_open(t->en, &f, &fd, e);
	if (r < 0)
		return err_wrap(e, r, "config of %.200s", image);
	t->reply_fd = fd;
	json_put_str(done, "image", digest_text(&rec->manifest, text));
	json_put_str(done, "config", digest_text(&rec->config.digest, text));
	json_open_array(done, "names");
	for (size_t i = 0; i < rec->names.n; i++)
		json_put_str(done, NULL, rec->names.v[i]);
	json_close_array(done);
	return 0;
}
