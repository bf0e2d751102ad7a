/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/state.h"

#include <errno.h>
#include <string.h>

#include "hooks/attach.h"
#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/fd.h"
#include "oci/base/json.h"
#include "oci/base/limits.h"

static int take_fields(struct state *s, struct err *e)
{
	const char *status = json_get_str(s->doc, "status");
	int64_t pid = 0;

	s->id = json_get_str(s->doc, "id");
	s->bundle = json_get_str(s->doc, "bundle");
	if (!s->id || !s->bundle || s->bundle[0] != '/')
		return err_set(e, -EBADMSG, "the runtime's state names no container or no bundle");
	/* Absent after the end of the container; then there is nothing to look at. */
	json_get_int(s->doc, "pid", &pid);
	if (pid < 0 || pid > INT32_MAX)
		return err_set(e, -EBADMSG, "the runtime's state has no possible pid");
	s->pid = (int32_t)pid;
	s->stopped = status && strcmp(status, "stopped") == 0;
	return attach_id_check(s->id, e);
}

int state_read(int fd, struct state *ret, struct err *e)
{
	_cleanup_buf_ struct buf b = {0};
	int r;

	*ret = (struct state){0};
	/* It carries the annotations of config.json. */
	buf_init(&b, LIMIT_BUNDLE_CONFIG);
	r = fd_read_all(fd, &b);
	if (r < 0)
		return err_errno(e, r, "reading the container's state from stdin");
	r = json_parse(b.data, b.len, LIMIT_BUNDLE_CONFIG, "state on stdin", &ret->doc, e);
	return r < 0 ? r : take_fields(ret, e);
}

void state_free(struct state *s)
{
	json_free(s->doc);
	*s = (struct state){0};
}
