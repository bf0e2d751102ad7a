/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "oci/base/buf.h"
#include "oci/base/cleanup.h"
#include "oci/base/err.h"
#include "oci/base/json.h"
#include "oci/bundle.h"
#include "oci/config.h"

/* A refusal says why, in one line. */
static bool accepted(int r, const struct err *e)
{
	if (r < 0 && (!*e->text || strchr(e->text, '\n')))
		abort();
	return r >= 0;
}

static void check_user(const struct bundle_user *u)
{
	if (u->ngroups > sizeof(u->groups) / sizeof(u->groups[0]))
		abort();
	if (!memchr(u->home, 0, sizeof(u->home)) || (u->home[0] && u->home[0] != '/'))
		abort();
	/* To the kernel that means "leave it as it is", which is root. */
	if (u->uid == UINT32_MAX || u->gid == UINT32_MAX)
		abort();
}

/* The same bytes each time, which a runtime can read, and the user that was looked up. */
static void bundle(const struct run_config *run, const struct bundle_user *u)
{
	static const struct digest image = {.sum = {1}};
	static const struct bundle_options opt = {
		.image = &image, .hook_path = "/usr/libexec/tarn/tarn-hook", .socket_path = "/s"};
	_cleanup_(json_freep) struct json *doc = NULL;
	_cleanup_buf_ struct buf first, second;
	const struct json *user, *process;
	struct err e = ERR_INIT;
	int64_t uid = -1, gid = -1;

	buf_init(&first, LIMIT_BUNDLE_CONFIG);
	buf_init(&second, LIMIT_BUNDLE_CONFIG);
	if (!accepted(bundle_write(run, u, &opt, &first, &e), &e))
		return;
	if (bundle_write(run, u, &opt, &second, &e) < 0 || first.len != second.len ||
	    memcmp(first.data, second.data, first.len) != 0)
		abort();
	if (json_parse(first.data, first.len, SIZE_MAX, "bundle", &doc, &e) < 0)
		abort();
	process = json_get(doc, "process");
	user = json_get(process, "user");
	if (!json_get_int(user, "uid", &uid) || uid != u->uid || !json_get_int(user, "gid", &gid) ||
	    gid != u->gid || json_count(json_get(process, "args")) == 0)
		abort();
}

/* Cuts the text up to the next NUL off. */
static char *cut(const uint8_t **p, size_t *left)
{
	const uint8_t *end = *left ? memchr(*p, 0, *left) : NULL;
	size_t n = end ? (size_t)(end - *p) : *left;
	char *text = strndup((const char *)*p, n);

	if (!text)
		abort();
	n += end ? 1 : 0;
	*p += n;
	*left -= n;
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An image's passwd, NUL, its group, NUL, its config, which says whom to look up. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *passwd = cut(&data, &size);
	_cleanup_free_ char *group = cut(&data, &size);
	_cleanup_(run_config_free) struct run_config run = {.workdir = NULL};
	static struct bundle_user u;
	struct err e = ERR_INIT;

	if (config_parse_run(data, size, "x", &run, NULL) < 0)
		return 0;
	if (!accepted(bundle_user_lookup(run.user, *passwd ? passwd : NULL, *group ? group : NULL,
					 &u, &e),
		      &e))
		return 0;
	check_user(&u);
	bundle(&run, &u);
	return 0;
}
